"""``python -m sandboxq obliterate``: remove a queue with all its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandboxq.cli.messages import echo
from sandboxq.cli.on_queue import ask, check_exists, counting, jobs_text, run_on_queue, yes_option
from sandboxq.cli.options import prefix_option, url_option
from sandboxq.errors import QueueHasActiveJobs

if TYPE_CHECKING:
    from sandboxq.queue.queue import Queue


@click.command()
@click.argument("queue")
@click.option("--force", is_flag=True, help="Remove jobs that are being run, too.")
@yes_option
@url_option
@prefix_option
def command(queue: str, *, force: bool, yes: bool, url: str | None, prefix: str) -> None:
    """Remove QUEUE with all its jobs, settings, schedulers and events, for ever.

    Jobs that wait for children stay. Without --force nothing is removed while jobs are active.
    """

    async def obliterate(jobs: Queue) -> int:
        await check_exists(jobs)
        count = sum((await jobs.counts()).values())
        ask(f"Remove queue {queue!r} and its {jobs_text(count)}, for ever?", yes=yes)
        try:
            with counting("removing"):
                await jobs.obliterate(force=force)
        except QueueHasActiveJobs as error:
            message = f"{error}: wait for them and try again (the queue is paused), or add --force"
            raise QueueHasActiveJobs(message) from error
        return count - sum((await jobs.counts()).values())

    removed = run_on_queue(queue, obliterate, url=url, prefix=prefix)
    echo(f"removed queue {queue!r} and {jobs_text(removed)}")
