"""``python -m sandboxq run``: a worker in the foreground."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sandboxq.child.sources import is_path, missing_text
from sandboxq.cli import logs, process
from sandboxq.cli.grouped import GroupedCommand
from sandboxq.cli.messages import end_with_exit_code
from sandboxq.cli.options import (
    KeepJobs,
    Limiter,
    Procs,
    Size,
    prefix_option,
    refuse_unknown_settings,
    setting,
    url_option,
)
from sandboxq.cli.output import Output
from sandboxq.cli.process import collect_rarely, stay_behind_as_init
from sandboxq.cli.progress import ProgressLine
from sandboxq.cli.sandbox_options import policy_options, take_policy
from sandboxq.cli.task_queues import queue_from_tasks
from sandboxq.errors import ProcessorNotLoaded
from sandboxq.model.job_limits import DEFAULT_BUDGETS
from sandboxq.model.outcome import MAX_CRASHES
from sandboxq.observe.telemetry import Telemetry
from sandboxq.observe.tracing import Tracing
from sandboxq.pool import kinds
from sandboxq.pool.calls import TIMEOUT_GRACE
from sandboxq.sandbox.environment import has_password
from sandboxq.worker.banner import banner, summary
from sandboxq.worker.endpoints import Endpoints
from sandboxq.worker.signals import end_by_signal
from sandboxq.worker.worker import Worker

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Coroutine


_log = logging.getLogger("sandboxq.cli")

_KEEP = "keep all, none, the newest N, or those younger than AGE (1000, 7d; or both: 1000,7d)."


@click.command(cls=GroupedCommand)
@click.argument("processor")
@setting("--queue", help="The queue. Default: that of the tasks, else the stem of the file's name.")
@setting(
    "--procs",
    type=Procs(),
    default="auto",
    show_default=True,
    help="Number of children; auto: one for each core that this process may use.",
)
@setting(
    "--concurrency",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Jobs that one child runs at once: more than 1 for 'async def process'.",
)
@click.option("--burst", is_flag=True, help="Exit when no job waits and none is active.")
@setting(
    "--isolation",
    type=click.Choice(kinds.NAMES),
    default=kinds.AUTO,
    show_default=True,
    help="What a child is; all but processes need --policy none.",
)
@policy_options
@setting(
    "--lock-duration",
    type=float,
    default=30.0,
    show_default=True,
    help="Seconds after which a job is taken from a worker that no longer renews its lock.",
)
@setting(
    "--stalled-interval",
    type=float,
    default=30.0,
    show_default=True,
    help="Seconds from one look for jobs of workers that are gone to the next.",
)
@setting(
    "--max-stalled-count",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Fail a job whose worker was lost more often.",
)
@setting(
    "--skip-stalled-check", is_flag=True, help="Look for no stalled jobs: another worker does."
)
@setting("--skip-lock-renewal", is_flag=True, help="Renew no locks: other code extends them.")
@setting(
    "--drain-delay",
    type=float,
    default=5.0,
    show_default=True,
    help="Seconds that a claim waits in an empty queue.",
)
@setting(
    "--start-timeout",
    type=float,
    default=60.0,
    show_default=True,
    help="Seconds that import and first children may take.",
)
@setting(
    "--shutdown-timeout",
    type=float,
    default=25.0,
    show_default=True,
    help="Seconds that running jobs have to finish.",
)
@setting(
    "--timeout",
    type=float,
    help="Seconds that an attempt may run, of jobs without a timeout of their own.",
)
@setting(
    "--timeout-grace",
    type=float,
    default=TIMEOUT_GRACE,
    show_default=True,
    help="Seconds from telling a job to end to killing it.",
)
@setting(
    "--max-block",
    type=float,
    help="Seconds that an 'async def' job may keep the event loop from the others in its child.",
)
@setting(
    "--limiter", type=Limiter(), help="At most N jobs in that time, all workers together: 10/1s."
)
@setting(
    "--max-started-attempts",
    type=click.IntRange(1),
    help="Fail a job that was begun more often; stalls and delays count too.",
)
@setting(
    "--max-crashes",
    type=click.IntRange(1),
    default=MAX_CRASHES,
    show_default=True,
    help="Fail a job for good once it has ended so many children, whatever attempts remain.",
)
@setting(
    "--claim-ahead-jobs",
    type=click.IntRange(0),
    default=2500,
    show_default=True,
    help="Jobs that may be claimed beyond those that run, of short ones: see --claim-ahead-ms.",
)
@setting(
    "--claim-ahead-ms",
    type=click.IntRange(0, 60_000),
    default=4,
    show_default=True,
    help="Milliseconds for which claimed jobs give the children work; 0 claims none ahead.",
)
@setting("--max-jobs-per-child", type=click.IntRange(1), help="Replace a child after so many jobs.")
@setting(
    "--max-rss-per-child",
    type=Size(),
    help="Replace a child that holds more memory after a job: 500M, 2G.",
)
@setting("--max-child-age", type=float, help="Replace a child after about so many seconds.")
@setting(
    "--max-result",
    type=Size(),
    default="512M",
    show_default=True,
    help="Fail a job whose value is larger, arrays and bytes included.",
)
@setting(
    "--max-reports",
    type=click.IntRange(1),
    default=DEFAULT_BUDGETS.reports,
    show_default=True,
    help="Progress, log rows and new data of one job; more are dropped, and its log says so.",
)
@setting(
    "--max-report-bytes",
    type=Size(),
    default="64M",
    show_default=True,
    help="Bytes of these together; more are dropped, new data are refused.",
)
@setting(
    "--max-lines",
    type=click.IntRange(1),
    default=DEFAULT_BUDGETS.lines,
    show_default=True,
    help="Lines that one job prints or logs, a long one counts for each KB; more are dropped.",
)
@setting(
    "--max-questions",
    type=click.IntRange(1, 1000),
    default=DEFAULT_BUDGETS.questions,
    show_default=True,
    help="Questions of one job to its worker at once; more wait.",
)
@setting(
    "--max-failure-text",
    type=click.IntRange(256, 1 << 20),
    default=DEFAULT_BUDGETS.failure_text,
    show_default=True,
    help="Characters of a failed job's stack; a quarter of that for its reason.",
)
@setting(
    "--max-rate-limit",
    type=click.FloatRange(0),
    default=DEFAULT_BUDGETS.rate_limit,
    show_default=True,
    help="Seconds that a job may have its queue rest by RateLimitError; more fails the job.",
)
@setting("--remove-on-complete", type=KeepJobs(), default="all", help=f"Completed jobs: {_KEEP}")
@setting("--remove-on-fail", type=KeepJobs(), default="all", help=f"Failed jobs: {_KEEP}")
@setting(
    "--metrics-points",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Minutes of metrics to keep, as Node's maxDataPoints.",
)
@setting("--name", default="", help="The worker's name in dashboards and in the jobs it ran.")
@setting("--tracing", is_flag=True, help="Make OpenTelemetry spans; needs opentelemetry-api.")
@setting(
    "--log-format",
    type=click.Choice([logs.TEXT, logs.JSON]),
    default=logs.TEXT,
    show_default=True,
    help="How log lines look.",
)
@setting(
    "--reload",
    is_flag=True,
    help="For development: changed code is loaded without losing jobs; needs sandboxq[reload].",
)
@setting(
    "--reload-dir",
    multiple=True,
    help="A folder to watch for --reload. Default: that of the processor's file or package.",
)
@setting(
    "--http",
    metavar="ADDRESS",
    help="Answer /livez, /readyz, /metrics and /v1/load there: 9808, 0.0.0.0:9808. Default: no.",
)
@url_option
@prefix_option
def command(
    processor: str, *, queue: str | None, burst: bool, url: str | None, prefix: str,
    log_format: str, tracing: bool, http: str | None, **options: Any,
) -> None:  # fmt: skip
    """Run PROCESSOR on the jobs of its queue.

    It is a file path, package.module:function, or a module of tasks (@task).
    """
    refuse_unknown_settings(click.get_current_context())
    stay_behind_as_init()
    output = Output(log_format)
    name = queue or queue_served(processor)
    has_reload, folders = options.pop("reload"), options.pop("reload_dir")
    options.update(policy=take_policy(options), tracing=Tracing() if tracing else None)
    endpoints = Endpoints(http) if http else None

    def new_worker() -> Worker:
        telemetry = Telemetry()
        telemetry.subscribe(output.tell, *logs.SHOWN)
        worker = Worker(name, processor, url=url, prefix=prefix, telemetry=telemetry, **options)
        if endpoints is not None:
            endpoints.add(worker)
        return worker

    if has_reload:
        if burst:
            message = "--reload runs until it is stopped: leave out --burst"
            raise click.UsageError(message)
        from sandboxq.cli.reload import Reloader, watched_folders  # noqa: PLC0415 - for development

        running = Reloader(new_worker, watched_folders(processor, folders)).run()
    else:
        running = _run(new_worker(), burst=burst, output=output)
    with output.in_charge(), end_with_exit_code():
        if click.get_current_context().get_parameter_source("url") is ParameterSource.COMMANDLINE:
            _warn_of_password(url or "")
        process.run(running if endpoints is None else _while_listening(endpoints, running))


async def _while_listening(endpoints: Endpoints, running: Coroutine[Any, Any, None]) -> None:
    try:
        async with endpoints:
            await running
    finally:
        running.close()


def _warn_of_password(url: str) -> None:
    """Say that a password among the arguments is no secret."""
    if has_password(url):
        _log.warning("anyone here can read the password in --url (ps); use SANDBOXQ_URL instead")


def queue_served(processor: str) -> str:
    """Return the queue that is served when none is named: of its tasks, or called as it is.

    Raises: UsageError: its tasks are of several; ProcessorNotLoaded.
    """
    return queue_from_tasks(processor) or queue_from_processor(processor)


def queue_from_processor(processor: str) -> str:
    """Return the queue that a processor serves when none is named: its file's or module's stem.

    Raises:
        ProcessorNotLoaded: it can be neither, such as ``.``.
    """
    place = processor.partition(":")[0]
    if not place.strip(f".{os.sep}") or (is_path(place) and Path(place).is_dir()):
        raise ProcessorNotLoaded(missing_text(place))
    if processor.endswith(".py") or os.sep in processor:
        return Path(processor).stem
    return processor.partition(":")[0].rpartition(".")[2]


async def _run(worker: Worker, *, burst: bool, output: Output) -> None:
    import asyncio  # noqa: PLC0415 - the loop exists by now, and --help need not pay for it

    starting = asyncio.ensure_future(worker.start())
    _listen_to_signals(worker, starting, output)
    has_progress = output.has_progress
    progress = ProgressLine(worker, output).shown() if has_progress else contextlib.nullcontext()
    try:
        await starting
        collect_rarely()
        _say(banner(worker))
        async with progress:
            await worker.run(burst=burst, handle_signals=False)
    except asyncio.CancelledError:
        if not starting.cancelled():
            raise
        return
    finally:
        await worker.close()
    _say(summary(worker))


def _say(lines: list[str]) -> None:
    for line in lines:
        _log.info("%s", line)


def _listen_to_signals(worker: Worker, starting: Future[None], output: Output) -> None:
    import asyncio  # noqa: PLC0415 - the loop exists by now, and --help need not pay for it

    loop = asyncio.get_running_loop()
    received: list[signal.Signals] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, number, received, worker, starting, output)


def _on_signal(
    number: signal.Signals,
    received: list[signal.Signals],
    worker: Worker,
    starting: Future[None],
    output: Output,
) -> None:
    received.append(number)
    if not starting.done():
        _log.warning("%s: stopped before the children were ready", number.name)
        starting.cancel()
    elif end_by_signal(worker, number, len(received)):
        output.flush()
        os._exit(128 + number)
