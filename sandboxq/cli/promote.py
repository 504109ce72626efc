"""``python -m sandboxq promote``: let delayed jobs run now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.on_queue import check_exists, counting, jobs_text, run_on_queue
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from sandboxq.queue.queue import Queue


@click.command()
@click.argument("queue")
@click.option("--id", "job_ids", multiple=True, help="Only this job; may be given several times.")
@click.option("--limit", type=int, help="How many at most, the earliest first.")
@url_option
@prefix_option
@json_option
def command(
    queue: str, *, job_ids: tuple[str, ...], limit: int | None, url: str | None, prefix: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Let the delayed jobs of QUEUE run now; they keep their priority."""
    if job_ids and limit is not None:
        message = "--limit is for all delayed jobs; leave it out with --id"
        raise UsageError(message)

    async def promote(jobs: Queue) -> int:
        await check_exists(jobs)
        for job_id in job_ids:
            await jobs.promote(job_id)
        if job_ids:
            return len(job_ids)
        with counting("promoting") as show:
            return await jobs.promote_jobs(limit=limit, progress=show)

    promoted = run_on_queue(queue, promote, url=url, prefix=prefix)
    if as_json:
        echo_json({"promoted": promoted})
    else:
        echo(f"{jobs_text(promoted, 'delayed')} of queue {queue!r} can run now")
