"""Commands that remove jobs, after a question on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.on_queue import ask, check_exists, counting, jobs_text, run_on_queue, yes_option
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.errors import QueueHasActiveJobs
from sandboxq.queue.bulk import CLEANED_STATES

if TYPE_CHECKING:
    from sandboxq.queue.queue import Queue


@click.command()
@click.argument("queue")
@click.option("--delayed", is_flag=True, help="Remove delayed jobs too.")
@yes_option
@url_option
@prefix_option
@json_option
def drain(
    queue: str, *, delayed: bool, yes: bool, url: str | None, prefix: str, as_json: bool
) -> None:
    """Remove all jobs of QUEUE that wait, with priority or without.

    Jobs that run, that wait for children, and the next runs of schedulers stay.
    """
    states = ["waiting", "prioritized", *(["delayed"] if delayed else [])]

    async def act(jobs: Queue) -> int:
        await check_exists(jobs)
        count = sum((await jobs.counts(states)).values())
        if count:
            kinds = " and ".join(states[1:])
            question = f"Remove {jobs_text(count)} ({states[0]}, {kinds}) of queue {queue!r}?"
            ask(question, yes=yes)
        with counting("draining") as show:
            return await jobs.drain(delayed=delayed, progress=show)

    removed = run_on_queue(queue, act, url=url, prefix=prefix)
    if as_json:
        echo_json({"removed": removed})
    else:
        echo(f"removed {jobs_text(removed)} of queue {queue!r}")


@click.command()
@click.argument("queue")
@click.argument("state", type=click.Choice([state.value for state in CLEANED_STATES]))
@click.option("--grace", type=float, required=True, help="Seconds for which nobody touched them.")
@click.option("--limit", type=int, help="How many at most, the oldest first.")
@yes_option
@url_option
@prefix_option
@json_option
def clean(
    queue: str, state: str, *, grace: float, limit: int | None, yes: bool, url: str | None,
    prefix: str, as_json: bool,
) -> None:  # fmt: skip
    """Remove jobs of QUEUE in STATE (such as completed) that nobody touched for so long.

    Active jobs are removed only when no worker holds their lock.
    """

    async def act(jobs: Queue) -> list[str]:
        await check_exists(jobs)
        count = (await jobs.counts(state))[state]
        if count:
            most = jobs_text(min(count, limit or count), state)
            ask(f"Remove up to {most} of queue {queue!r}, older than {grace:g} s?", yes=yes)
        with counting("cleaning") as show:
            return await jobs.clean(grace, state, limit=limit, progress=show)

    removed = run_on_queue(queue, act, url=url, prefix=prefix)
    if as_json:
        echo_json({"removed": len(removed), "ids": removed})
    else:
        echo(f"removed {jobs_text(len(removed), state)} of queue {queue!r}")


@click.command()
@click.argument("queue")
@click.option("--force", is_flag=True, help="Remove jobs that are being run, too.")
@yes_option
@url_option
@prefix_option
def obliterate(queue: str, *, force: bool, yes: bool, url: str | None, prefix: str) -> None:
    """Remove QUEUE with all its jobs, settings, schedulers and events, for ever.

    Jobs that wait for children stay. Without --force nothing is removed while jobs are active.
    """

    async def act(jobs: Queue) -> int:
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

    removed = run_on_queue(queue, act, url=url, prefix=prefix)
    echo(f"removed queue {queue!r} and {jobs_text(removed)}")
