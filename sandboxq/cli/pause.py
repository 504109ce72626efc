"""``python -m sandboxq pause``: let no worker claim any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandboxq.cli.messages import echo
from sandboxq.cli.on_queue import jobs_text, run_on_queue
from sandboxq.cli.options import prefix_option, url_option

if TYPE_CHECKING:
    from sandboxq.queue.queue import Queue


@click.command()
@click.argument("queue")
@url_option
@prefix_option
def command(queue: str, *, url: str | None, prefix: str) -> None:
    """Let no worker claim jobs of QUEUE any more; what runs goes on, and jobs can be added."""

    async def pause(jobs: Queue) -> int:
        await jobs.pause()
        return (await jobs.counts("active"))["active"]

    active = run_on_queue(queue, pause, url=url, prefix=prefix)
    still = f"; {jobs_text(active, 'active')} will still finish" if active else ""
    echo(f"queue {queue!r} is paused{still}")
