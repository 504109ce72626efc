"""``python -m sandboxq retry``: let finished jobs run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.on_queue import check_exists, counting, jobs_text, run_on_queue
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.errors import UsageError
from sandboxq.queue.bulk import FINISHED_STATES

if TYPE_CHECKING:
    from sandboxq.queue.queue import Queue


@click.command()
@click.argument("queue")
@click.option("--id", "job_ids", multiple=True, help="Only this job; may be given several times.")
@click.option(
    "--state",
    type=click.Choice([state.value for state in FINISHED_STATES]),
    default="failed",
    show_default=True,
)
@click.option("--limit", type=int, help="How many at most, the oldest first.")
@click.option("--reset-attempts", is_flag=True, help="Give them all their attempts again.")
@url_option
@prefix_option
@json_option
def command(
    queue: str, *, job_ids: tuple[str, ...], state: str, limit: int | None, reset_attempts: bool,
    url: str | None, prefix: str, as_json: bool,
) -> None:  # fmt: skip
    """Let the failed jobs of QUEUE run again; they keep their priority.

    Without --reset-attempts each has one attempt more.
    """
    if job_ids and limit is not None:
        message = "--limit is for all jobs of a state; leave it out with --id"
        raise UsageError(message)

    async def retry(jobs: Queue) -> int:
        await check_exists(jobs)
        for job_id in job_ids:
            await jobs.retry(job_id, state, reset_attempts_made=reset_attempts)
        if job_ids:
            return len(job_ids)
        with counting("retrying") as show:
            return await jobs.retry_jobs(
                state, limit=limit, reset_attempts_made=reset_attempts, progress=show
            )

    retried = run_on_queue(queue, retry, url=url, prefix=prefix)
    if as_json:
        echo_json({"retried": retried})
    else:
        echo(f"{jobs_text(retried, state)} of queue {queue!r} will run again")
