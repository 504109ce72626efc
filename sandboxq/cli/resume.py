"""``python -m sandboxq resume``: undo pause."""

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
    """Let workers claim jobs of QUEUE again."""

    async def resume(jobs: Queue) -> int:
        await jobs.resume()
        return sum((await jobs.counts(["waiting", "prioritized"])).values())

    waiting = run_on_queue(queue, resume, url=url, prefix=prefix)
    echo(f"queue {queue!r} runs again; {jobs_text(waiting)} to claim")
