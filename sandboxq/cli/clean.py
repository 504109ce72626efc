"""``python -m sandboxq clean``: remove old jobs of a state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.on_queue import ask, check_exists, counting, jobs_text, run_on_queue, yes_option
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.queue.bulk import CLEANED_STATES

if TYPE_CHECKING:
    from sandboxq.queue.queue import Queue


@click.command()
@click.argument("queue")
@click.argument("state", type=click.Choice([state.value for state in CLEANED_STATES]))
@click.option("--grace", type=float, required=True, help="Seconds for which nobody touched them.")
@click.option("--limit", type=int, help="How many at most, the oldest first.")
@yes_option
@url_option
@prefix_option
@json_option
def command(
    queue: str, state: str, *, grace: float, limit: int | None, yes: bool, url: str | None,
    prefix: str, as_json: bool,
) -> None:  # fmt: skip
    """Remove jobs of QUEUE in STATE (such as completed) that nobody touched for so long.

    Active jobs are removed only when no worker holds their lock.
    """

    async def clean(jobs: Queue) -> list[str]:
        await check_exists(jobs)
        count = (await jobs.counts(state))[state]
        if count:
            most = jobs_text(min(count, limit or count), state)
            ask(f"Remove up to {most} of queue {queue!r}, older than {grace:g} s?", yes=yes)
        with counting("cleaning") as show:
            return await jobs.clean(grace, state, limit=limit, progress=show)

    removed = run_on_queue(queue, clean, url=url, prefix=prefix)
    if as_json:
        echo_json({"removed": len(removed), "ids": removed})
    else:
        echo(f"removed {jobs_text(len(removed), state)} of queue {queue!r}")
