"""``python -m sandboxq cancel``: end a job, whether it waits or runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.on_queue import check_exists, run_on_queue
from sandboxq.cli.options import json_option, prefix_option, url_option

if TYPE_CHECKING:
    from sandboxq.queue.queue import Queue


@click.command()
@click.argument("queue")
@click.argument("job_id")
@click.option("--reason", help="Why, for those who read the failed job.")
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="Seconds that its code has to end by itself.",
)
@url_option
@prefix_option
@json_option
def command(
    queue: str, job_id: str, *, reason: str | None, grace: float, url: str | None, prefix: str,
    as_json: bool,
) -> None:  # fmt: skip
    """End job JOB_ID of QUEUE: if it waits it fails now, if it runs it is told, then killed."""

    async def cancel(jobs: Queue) -> str | None:
        await check_exists(jobs)
        return await jobs.cancel(job_id, reason, grace=grace)

    worker = run_on_queue(queue, cancel, url=url, prefix=prefix)
    if as_json:
        echo_json({"job_id": job_id, "worker": worker})
    elif worker is None:
        echo(f"job {job_id} of queue {queue!r} had not begun, and has failed as cancelled")
    else:
        echo(f"worker {worker} ends job {job_id} of queue {queue!r}")
