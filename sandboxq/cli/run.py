"""``python -m sandboxq run``: a worker in the foreground."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sandboxq.cli import logs, process
from sandboxq.cli.foreground import run_in_foreground
from sandboxq.cli.messages import end_with_exit_code
from sandboxq.cli.options import (
    KeepJobs,
    Limiter,
    Procs,
    QueueName,
    Size,
    prefix_option,
    refuse_unknown_settings,
    setting,
    url_option,
)
from sandboxq.cli.output import Output
from sandboxq.cli.process import stay_behind_as_init
from sandboxq.cli.run_options import GroupedCommand, policy_options
from sandboxq.cli.webhook import KINDS, Webhook
from sandboxq.cli.worker_tables import Plan, plans_of
from sandboxq.config import METRICS_POINTS
from sandboxq.model.job_limits import DEFAULT_BUDGETS
from sandboxq.model.outcome import MAX_CRASHES
from sandboxq.observe.telemetry import Telemetry
from sandboxq.pool import kinds
from sandboxq.pool.calls import TIMEOUT_GRACE
from sandboxq.sandbox.environment import has_password
from sandboxq.worker.endpoints import Endpoints
from sandboxq.worker.group import WorkerGroup
from sandboxq.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Coroutine


_log = logging.getLogger("sandboxq.cli")

_KEEP = "keep all, none, the newest N, or those younger than AGE (1000, 7d; or both: 1000,7d)."


@click.command(cls=GroupedCommand)
@click.argument("processors", metavar="[PROCESSOR]...", nargs=-1)
@setting(
    "--queue",
    type=QueueName(),
    multiple=True,
    help="The queue to serve, for one PROCESSOR. Default: the queues of its tasks, else the "
    "file's name without .py. May be repeated.",
)
@setting(
    "--procs",
    type=Procs(),
    default="auto",
    show_default=True,
    help="Number of children, of all queues together; auto: one for each core that this process "
    "may use.",
)
@setting(
    "--concurrency",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Jobs that one child runs at once; more than 1 only for 'async def process'.",
)
@click.option("--burst", is_flag=True, help="Exit when no job waits and none is active.")
@setting(
    "--isolation",
    type=click.Choice(kinds.NAMES),
    default=kinds.AUTO,
    show_default=True,
    help="Kind of the children; all but process need --policy none.",
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
    help="Seconds between two checks for jobs whose worker is gone.",
)
@setting(
    "--max-stalled-count",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="How often a job may stall; it fails the next time.",
)
@setting(
    "--skip-stalled-check", is_flag=True, help="Do not check for stalled jobs: other workers do."
)
@setting("--skip-lock-renewal", is_flag=True, help="Do not renew locks: other code does.")
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
    help="Seconds for the import and the start of the first children.",
)
@setting(
    "--shutdown-timeout",
    type=float,
    default=25.0,
    show_default=True,
    help="Seconds that running jobs have to finish when the worker stops.",
)
@setting(
    "--timeout",
    type=float,
    help="Seconds that one attempt may run, if the job has no timeout itself. Default: no limit.",
)
@setting(
    "--timeout-grace",
    type=float,
    default=TIMEOUT_GRACE,
    show_default=True,
    help="Seconds between telling a job to end and killing it.",
)
@setting(
    "--max-block",
    type=float,
    help="Seconds that an 'async def' job may block its event loop. Default: no limit.",
)
@setting(
    "--limiter",
    type=Limiter(),
    help="At most N jobs in that time, by all workers together: 10/1s. Default: no limit.",
)
@setting(
    "--max-started-attempts",
    type=click.IntRange(1),
    help="How often a job may be started, stalls and delays included. Default: no limit.",
)
@setting(
    "--max-crashes",
    type=click.IntRange(1),
    default=MAX_CRASHES,
    show_default=True,
    help="Fail a job for good once it has ended so many children, even if attempts remain.",
)
@setting(
    "--claim-ahead-jobs",
    type=click.IntRange(0),
    default=2500,
    show_default=True,
    help="Short jobs that may be claimed beyond those that run: see --claim-ahead-ms.",
)
@setting(
    "--claim-ahead-ms",
    type=click.IntRange(0, 60_000),
    default=4,
    show_default=True,
    help="Milliseconds of work for the children that is claimed in advance; 0: none.",
)
@setting(
    "--max-jobs-per-child",
    type=click.IntRange(1),
    help="Jobs after which a child is replaced. Default: never.",
)
@setting(
    "--max-rss-per-child",
    type=Size(),
    help="Memory above which a child is replaced after a job: 500M, 2G. Default: never.",
)
@setting(
    "--max-child-age",
    type=float,
    help="Seconds after which a child is replaced, about. Default: never.",
)
@setting(
    "--max-result",
    type=Size(),
    default="512M",
    show_default=True,
    help="Size of a job's value, arrays and bytes included; a larger one fails the job.",
)
@setting(
    "--max-reports",
    type=click.IntRange(1),
    default=DEFAULT_BUDGETS.reports,
    show_default=True,
    help="Reports of one job (progress, log rows, new data); more are dropped, its log says so.",
)
@setting(
    "--max-report-bytes",
    type=Size(),
    default="64M",
    show_default=True,
    help="Size of the reports of one job; more are dropped, new data are refused.",
)
@setting(
    "--max-lines",
    type=click.IntRange(1),
    default=DEFAULT_BUDGETS.lines,
    show_default=True,
    help="Lines that one job prints or logs (a long one counts per KB); more are dropped.",
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
    help="Characters of a failed job's stack; its reason may have a quarter of that.",
)
@setting(
    "--max-rate-limit",
    type=click.FloatRange(0),
    default=DEFAULT_BUDGETS.rate_limit,
    show_default=True,
    help="Seconds that a job may pause its queue by RateLimitError; more fails the job.",
)
@setting("--remove-on-complete", type=KeepJobs(), default="all", help=f"Completed jobs: {_KEEP}")
@setting("--remove-on-fail", type=KeepJobs(), default="all", help=f"Failed jobs: {_KEEP}")
@setting(
    "--metrics-points",
    type=click.IntRange(0),
    default=METRICS_POINTS,
    show_default=True,
    help="Minutes of metrics that are kept in Redis, as Node's maxDataPoints; 0: none.",
)
@setting("--name", default="", help="Name of the worker in dashboards. Default: host:pid.")
@setting("--tracing", is_flag=True, help="Make OpenTelemetry spans; needs opentelemetry-api.")
@setting(
    "--log-format",
    type=click.Choice([logs.TEXT, logs.JSON]),
    default=logs.TEXT,
    show_default=True,
    help="Format of the log.",
)
@setting(
    "--reload",
    is_flag=True,
    help="For development: changed code is loaded without losing jobs; needs watchfiles.",
)
@setting(
    "--reload-dir",
    multiple=True,
    help="A folder to watch for --reload. Default: that of the processor's file or package.",
)
@setting(
    "--http",
    metavar="ADDRESS",
    help="Serve /livez, /readyz, /metrics and /v1/load there: 9808, 0.0.0.0:9808. Default: off.",
)
@setting(
    "--webhook",
    metavar="URL",
    help="Post to it, as JSON: final failures, stalled jobs, lost locks, an open circuit.",
)
@url_option
@prefix_option
def command(
    processors: tuple[str, ...], *, queue: tuple[str, ...], burst: bool, url: str | None,
    prefix: str, log_format: str, http: str | None, reload: bool, **_: Any,
) -> None:  # fmt: skip
    """Run each PROCESSOR on the jobs of its queue, all in one process.

    It is a file path, package.module:function, a module of tasks (@task), or the name of a table
    [tool.sandboxq.workers.NAME] in pyproject.toml; without any, all these tables are run. Several
    share the cores and the memory.
    """
    context = click.get_current_context()
    refuse_unknown_settings(context)
    stay_behind_as_init()
    plans = plans_of(context, processors, queue)
    output = Output(log_format, names_queues=len(plans) > 1)
    endpoints = Endpoints(http) if http else None
    webhook = context.params["webhook"]
    posting = Webhook(webhook) if webhook else None

    def new_worker(plan: Plan) -> Worker:
        telemetry = Telemetry()
        telemetry.subscribe(output.teller(plan.queue), *logs.SHOWN)
        if posting is not None:
            telemetry.subscribe(posting.teller(plan.queue), *KINDS)
        return Worker(
            plan.queue, plan.processor, url=url, prefix=prefix, telemetry=telemetry, **plan.options
        )

    def renewed(queue: str) -> Worker:
        worker = new_worker(next(plan for plan in plans if plan.queue == queue))
        if endpoints is not None:
            endpoints.add(worker)
        return worker

    group = WorkerGroup(
        [new_worker(plan) for plan in plans],
        {plan.queue: plan.share for plan in plans},
        procs=context.params["procs"] if len(plans) > 1 else "auto",
        renew=renewed,
    )
    if reload:
        if burst:
            message = "--reload runs until it is stopped: leave out --burst"
            raise click.UsageError(message)
        from sandboxq.cli.reload import run_reloading  # noqa: PLC0415 - for development

        running = run_reloading(plans, group, new_worker, context.params["reload_dir"], endpoints)
    else:
        if endpoints is not None:
            endpoints.add(*group.workers)
        running = run_in_foreground(group, burst=burst, output=output)
    with output.in_charge(), end_with_exit_code():
        if context.get_parameter_source("url") is ParameterSource.COMMANDLINE:
            _warn_of_password(url or "")
        try:
            process.run(running if endpoints is None else _while_listening(endpoints, running))
        finally:
            if posting is not None:
                posting.close()


async def _while_listening(endpoints: Endpoints, running: Coroutine[Any, Any, None]) -> None:
    try:
        async with endpoints:
            await running
    finally:
        running.close()


def _warn_of_password(url: str) -> None:
    """Warn that others can read a password among the arguments."""
    if has_password(url):
        _log.warning("anyone here can read the password in --url (ps); use SANDBOXQ_URL instead")
