"""Commands that change a queue, a job or a running worker, or remove jobs.

Before jobs are removed, they ask on a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sandboxq.broker.commands.workers import ask_to_reload, ask_to_scale
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.cli import process
from sandboxq.cli.messages import echo, echo_json
from sandboxq.cli.on_queue import ask, check_exists, counting, jobs_text, run_on_queue, yes_option
from sandboxq.cli.options import json_option, prefix_option, url_option
from sandboxq.errors import ProcessorNotLoaded, QueueError, QueueHasActiveJobs, UsageError
from sandboxq.queue.bulk import CLEANED_STATES, FINISHED_STATES

if TYPE_CHECKING:
    from sandboxq.queue.queue import Queue


@click.command()
@click.argument("queue")
@url_option
@prefix_option
def pause(queue: str, *, url: str | None, prefix: str) -> None:
    """Stop workers from claiming jobs of QUEUE; what runs goes on, and jobs can be added."""

    async def act(jobs: Queue) -> int:
        await jobs.pause()
        return (await jobs.counts("active"))["active"]

    active = run_on_queue(queue, act, url=url, prefix=prefix)
    still = f"; {jobs_text(active, 'active')} will still finish" if active else ""
    echo(f"queue {queue!r} is paused{still}")


@click.command()
@click.argument("queue")
@url_option
@prefix_option
def resume(queue: str, *, url: str | None, prefix: str) -> None:
    """Let workers claim jobs of QUEUE again."""

    async def act(jobs: Queue) -> tuple[bool, int]:
        await check_exists(jobs)
        # Before: workers claim at once.
        waiting = sum((await jobs.counts(["waiting", "prioritized"])).values())
        was_paused = await jobs.is_paused()
        await jobs.resume()
        return was_paused, waiting

    was_paused, waiting = run_on_queue(queue, act, url=url, prefix=prefix)
    how = "runs again" if was_paused else "was not paused"
    echo(f"queue {queue!r} {how}; {jobs_text(waiting)} to claim")


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
def retry(
    queue: str, *, job_ids: tuple[str, ...], state: str, limit: int | None, reset_attempts: bool,
    url: str | None, prefix: str, as_json: bool,
) -> None:  # fmt: skip
    """Let the failed jobs of QUEUE run again; they keep their priority.

    Without --reset-attempts each has one attempt more.
    """
    if job_ids and limit is not None:
        message = "--limit is for all jobs of a state; leave it out with --id"
        raise UsageError(message)

    async def act(jobs: Queue) -> int:
        await check_exists(jobs)
        for job_id in job_ids:
            await jobs.retry(job_id, state, reset_attempts_made=reset_attempts)
        if job_ids:
            return len(job_ids)
        with counting("retrying") as show:
            return await jobs.retry_jobs(
                state, limit=limit, reset_attempts_made=reset_attempts, progress=show
            )

    retried = run_on_queue(queue, act, url=url, prefix=prefix)
    if as_json:
        echo_json({"retried": retried})
    else:
        echo(f"{jobs_text(retried, state)} of queue {queue!r} will run again")


@click.command()
@click.argument("queue")
@click.option("--id", "job_ids", multiple=True, help="Only this job; may be given several times.")
@click.option("--limit", type=int, help="How many at most, the earliest first.")
@url_option
@prefix_option
@json_option
def promote(
    queue: str, *, job_ids: tuple[str, ...], limit: int | None, url: str | None, prefix: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Let the delayed jobs of QUEUE run now; they keep their priority."""
    if job_ids and limit is not None:
        message = "--limit is for all delayed jobs; leave it out with --id"
        raise UsageError(message)

    async def act(jobs: Queue) -> int:
        await check_exists(jobs)
        for job_id in job_ids:
            await jobs.promote(job_id)
        if job_ids:
            return len(job_ids)
        with counting("promoting") as show:
            return await jobs.promote_jobs(limit=limit, progress=show)

    promoted = run_on_queue(queue, act, url=url, prefix=prefix)
    if as_json:
        echo_json({"promoted": promoted})
    else:
        echo(f"{jobs_text(promoted, 'delayed')} of queue {queue!r} can run now")


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
def cancel(
    queue: str, job_id: str, *, reason: str | None, grace: float, url: str | None, prefix: str,
    as_json: bool,
) -> None:  # fmt: skip
    """End job JOB_ID of QUEUE: if it waits it fails now, if it runs it is told, then killed."""

    async def act(jobs: Queue) -> str | None:
        await check_exists(jobs)
        return await jobs.cancel(job_id, reason, grace=grace)

    worker = run_on_queue(queue, act, url=url, prefix=prefix)
    if as_json:
        echo_json({"job_id": job_id, "worker": worker})
    elif worker is None:
        echo(f"job {job_id} of queue {queue!r} had not begun, and has failed as cancelled")
    else:
        echo(f"worker {worker} ends job {job_id} of queue {queue!r}")


@click.command()
@click.argument("queue")
@click.argument("procs", type=click.IntRange(1, 1024))
@url_option
@prefix_option
@json_option
def scale(queue: str, procs: int, *, url: str | None, prefix: str, as_json: bool) -> None:
    """Have PROCS children in each running worker of QUEUE."""
    answers = process.run(_scale(QueueKeys(queue, prefix), procs, url=url))
    if not answers:
        message = f"no running worker of queue {queue!r} answered; start one with 'run'"
        raise QueueError(message)
    if as_json:
        echo_json(answers)
        return
    for answer in answers:
        echo(f"{answer['worker']}: {answer['procs']} children")


@click.command()
@click.argument("queue")
@url_option
@prefix_option
@json_option
def reload(queue: str, *, url: str | None, prefix: str, as_json: bool) -> None:
    """Have each running worker of QUEUE load its code anew, child by child; no job is lost.

    Code that cannot be run is told, and the code before runs on: exit code 3.
    """
    answers = process.run(_reload(QueueKeys(queue, prefix), url=url, tell=not as_json))
    if not answers:
        message = f"no running worker of queue {queue!r} answered; start one with 'run'"
        raise QueueError(message)
    if as_json:
        echo_json(answers)
    failed = [str(answer["worker"]) for answer in answers if answer["error"]]
    if failed:
        message = f"the new code was not taken by {', '.join(failed)}"
        raise ProcessorNotLoaded(message)


async def _reload(keys: QueueKeys, *, url: str | None, tell: bool) -> list[dict[str, Any]]:
    broker, answers = await Broker.connect(url), []
    try:
        async for answer in ask_to_reload(broker, keys):
            answers.append(answer)
            if tell:
                echo(f"{answer['worker']}: {answer['error'] or 'runs the new code'}")
    finally:
        await broker.close()
    return answers


async def _scale(keys: QueueKeys, procs: int, *, url: str | None) -> list[dict[str, Any]]:
    broker = await Broker.connect(url)
    try:
        return await ask_to_scale(broker, keys, procs)
    finally:
        await broker.close()


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
@click.option("--grace", type=float, required=True, help="Seconds since their last change.")
@click.option("--limit", type=int, help="How many at most, the oldest first.")
@yes_option
@url_option
@prefix_option
@json_option
def clean(
    queue: str, state: str, *, grace: float, limit: int | None, yes: bool, url: str | None,
    prefix: str, as_json: bool,
) -> None:  # fmt: skip
    """Remove jobs of QUEUE in STATE (such as completed) that did not change for so long.

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
