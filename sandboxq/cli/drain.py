"""``python -m sandboxq drain``: remove what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.on_queue import ask, check_exists, counting, jobs_text, run_on_queue, yes_option
from sandboxq.cli.options import json_option, prefix_option, url_option

if TYPE_CHECKING:
    from sandboxq.queue.queue import Queue


@click.command()
@click.argument("queue")
@click.option("--delayed", is_flag=True, help="Remove delayed jobs too.")
@yes_option
@url_option
@prefix_option
@json_option
def command(
    queue: str, *, delayed: bool, yes: bool, url: str | None, prefix: str, as_json: bool
) -> None:
    """Remove all jobs of QUEUE that wait, with priority or without.

    Jobs that run, that wait for children, and the next runs of schedulers stay.
    """
    states = ["waiting", "prioritized", *(["delayed"] if delayed else [])]

    async def drain(jobs: Queue) -> int:
        await check_exists(jobs)
        count = sum((await jobs.counts(states)).values())
        if count:
            kinds = " and ".join(states[1:])
            question = f"Remove {jobs_text(count)} ({states[0]}, {kinds}) of queue {queue!r}?"
            ask(question, yes=yes)
        with counting("draining") as show:
            return await jobs.drain(delayed=delayed, progress=show)

    removed = run_on_queue(queue, drain, url=url, prefix=prefix)
    if as_json:
        echo_json({"removed": removed})
    else:
        echo(f"removed {jobs_text(removed)} of queue {queue!r}")
