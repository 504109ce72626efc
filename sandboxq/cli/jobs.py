"""``python -m sandboxq jobs``: list the jobs of a state, or show one."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sandboxq.broker.codec import options_members
from sandboxq.broker.commands.jobs import STATES
from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.on_queue import check_exists, jobs_text, run_on_queue
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.errors import UsageError
from sandboxq.payload.printable import printable

if TYPE_CHECKING:
    from sandboxq.model.job import StoredJob
    from sandboxq.queue.queue import Queue

# What a list shows of the data; --json and --id show all of it.
_DATA_LENGTH = 200

# A pipe has no width: each job stays on one line, for `grep` and `awk`.
_WIDTH_OF_PIPE = 1000

# The time that says most, by state; else when it was added.
_TIMES = {
    "active": ("started", "processed_on_ms"),
    "completed": ("finished", "finished_on_ms"),
    "failed": ("finished", "finished_on_ms"),
}


# By value: the names of the members (WAITING_CHILDREN) are not what is typed.
_STATE = click.Choice([state.value for state in STATES])


@click.command()
@click.argument("queue")
@click.argument("state", type=_STATE, required=False, metavar="[STATE]")
@click.option("--id", "job_id", help="Show this job, whatever its state.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many."
)
@click.option("--skip", type=click.IntRange(0), default=0, help="How many to skip first.")
@click.option("--oldest", is_flag=True, help="The oldest first, not the newest.")
@url_option
@prefix_option
@json_option
def command(  # noqa: PLR0913 - one parameter for each option of the interface
    queue: str, state: str | None, *, job_id: str | None, limit: int, skip: int, oldest: bool,
    url: str | None, prefix: str, as_json: bool,
) -> None:  # fmt: skip
    """List the jobs of QUEUE in STATE, or show the one with --id."""
    if (state is None) == (job_id is None):
        message = f"say which jobs: a state ({', '.join(STATES)}) or --id ID"
        raise UsageError(message)

    async def listed(jobs: Queue) -> tuple[list[StoredJob], int]:
        await check_exists(jobs)
        found = await jobs.get_jobs(str(state), skip, skip + limit - 1, ascending=oldest)
        return list(found), (await jobs.counts(str(state)))[str(state)]

    async def one(jobs: Queue) -> dict[str, Any]:
        job = await jobs.read_job(str(job_id))
        return {"state": str(await job.state()), **members(job), "logs": await job.logs()}

    if job_id is not None:
        shown = run_on_queue(queue, one, url=url, prefix=prefix)
        echo_json(shown) if as_json else _print_one(shown)
        return
    jobs, total = run_on_queue(queue, listed, url=url, prefix=prefix)
    if as_json:
        echo_json([members(job) for job in jobs])
    else:
        _print_list(jobs, total, state=str(state), queue=queue)


def members(job: StoredJob) -> dict[str, Any]:
    """Return what is known of a job, for JSON; options have BullMQ's names."""
    return {
        "id": job.id,
        "queue": job.queue_name,
        "name": job.name,
        "data": job.data,
        "opts": options_members(job.opts),
        "priority": job.priority,
        "delay_ms": job.delay_ms,
        "timestamp_ms": job.timestamp_ms,
        "processed_on_ms": job.processed_on_ms,
        "finished_on_ms": job.finished_on_ms,
        "processed_by": job.processed_by,
        "attempts_made": job.attempts_made,
        "attempts_started": job.attempts_started,
        "stalled_counter": job.stalled_counter,
        "progress": job.progress,
        "returnvalue": job.returnvalue,
        "failed_reason": job.failed_reason,
        "cause": job.cause,
        "crashes": job.crashes,
        "crash_history": list(job.crash_history),
        "usage": None if job.usage is None else asdict(job.usage),
        "stacktrace": list(job.stacktrace),
        "parent_key": job.parent_key,
        "deduplication_id": job.deduplication_id,
        "scheduler_id": job.scheduler_id,
    }


def _print_list(jobs: list[StoredJob], total: int, *, state: str, queue: str) -> None:
    if not jobs:
        echo(f"{jobs_text(total, state)} in queue {queue!r}")
        return
    table = Table(box=None, pad_edge=False, show_edge=False)
    time, field = _TIMES.get(state, ("added", "timestamp_ms"))
    for title in ("id", "name", time, "attempts", "failed reason" if state == "failed" else "data"):
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for job in jobs:
        last = _failure_text(job) if state == "failed" else _data_text(job.data)
        cells = (
            job.id,
            job.name,
            _time_text(getattr(job, field) or 0),
            str(job.attempts_made),
            last,
        )
        # Text: brackets in names and data are no markup.
        table.add_row(*(Text(_one_line(cell)) for cell in cells))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_OF_PIPE)
    console.print(table)
    if len(jobs) < total:
        echo(f"{len(jobs):,} of {jobs_text(total, state)}; --skip and --limit show others")


def _print_one(shown: dict[str, Any]) -> None:
    for name, value in shown.items():
        if value in (None, [], "") or (value == 0 and name not in {"attempts_made", "progress"}):
            continue
        if name.endswith("_ms") and name != "delay_ms":
            echo(f"{name.removesuffix('_ms'):<17} {_time_text(value)}")
        elif name in {"stacktrace", "logs"}:
            between = "\n\n" if name == "stacktrace" else "\n"  # one trace for each attempt
            echo(f"{name}:\n{between.join(_indented(text) for text in value)}")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            echo(f"{name:<17} {text}")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _failure_text(job: StoredJob) -> str:
    reason = job.failed_reason or ""
    return f"{job.cause}: {reason}" if job.cause else reason


def _data_text(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)[:_DATA_LENGTH]


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _time_text(time_ms: int) -> str:
    try:
        time = dt.datetime.fromtimestamp(time_ms / 1000, tz=dt.UTC).astimezone()
    except (ValueError, OverflowError):
        return f"{time_ms} ms"  # no time of a calendar: somebody else has written it
    return time.isoformat(sep=" ", timespec="seconds")
