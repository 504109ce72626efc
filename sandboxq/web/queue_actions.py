"""What is done to a queue: pause, drain, clean, its limits, its workers, a new job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from sandboxq.broker.commands.workers import ask_to_scale
from sandboxq.errors import UsageError
from sandboxq.web.actions import Done, Visit, action

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.queue.bulk import Progress

Finished = Literal["completed", "failed"]
Cleaned = Literal["completed", "failed", "waiting", "prioritized", "delayed", "active"]
# Seconds that one action goes on; what is left is done by the next.
MOST_SECONDS = 20.0
_MOST_PROCS = 1024


@action("/queues/{queue}/pause")
async def pause_queue(visit: Visit, queue: str) -> Done:
    """Let no worker claim jobs of a queue any more; jobs can still be added."""
    await (await visit.dashboard.queue(queue)).pause()
    return {"message": f"queue {queue!r} is paused: running jobs end, others wait", "count": 1}


@action("/queues/{queue}/resume")
async def resume_queue(visit: Visit, queue: str) -> Done:
    """Undo a pause."""
    await (await visit.dashboard.queue(queue)).resume()
    return {"message": f"queue {queue!r} goes on", "count": 1}


@action("/queues/{queue}/drain")
async def drain_queue(visit: Visit, queue: str, *, delayed: bool = False) -> Done:
    """Remove all jobs that wait, delayed ones too if so."""
    found = await visit.dashboard.queue(queue)
    return await counted(
        lambda progress: found.drain(delayed=delayed, progress=progress), "{} removed"
    )


@action("/queues/{queue}/clean")
async def clean_queue(
    visit: Visit, queue: str, *, state: Cleaned = "completed", grace: float = 0.0
) -> Done:
    """Remove jobs of a state that did not change for ``grace`` seconds; locked ones stay."""
    found = await visit.dashboard.queue(queue)
    return await counted(
        lambda progress: found.clean(grace, state, progress=progress), f"{{}} removed ({state})"
    )


@action("/queues/{queue}/retry")
async def retry_queue(
    visit: Visit, queue: str, *, state: Finished = "failed", reset_attempts: bool = True
) -> Done:
    """Let all failed, or completed, jobs of a queue wait again."""
    found = await visit.dashboard.queue(queue)
    return await counted(
        lambda progress: found.retry_jobs(
            state, reset_attempts_made=reset_attempts, progress=progress
        ),
        "{} wait again",
    )


@action("/queues/{queue}/promote")
async def promote_queue(visit: Visit, queue: str) -> Done:
    """Let all delayed jobs of a queue wait from now on."""
    found = await visit.dashboard.queue(queue)
    return await counted(
        lambda progress: found.promote_jobs(progress=progress), "{} wait from now on"
    )


async def counted(run: Callable[[Progress], Awaitable[Any]], text: str) -> Done:
    """Run what tells how many jobs it has done, for so long; say how far it came."""
    counts = [0]

    def note(done: int) -> None:
        counts[0] = done

    limit = asyncio.timeout(MOST_SECONDS)
    try:
        async with limit:
            await run(note)
    except TimeoutError:
        if not limit.expired():
            raise
    return done_to(counts[0], text, is_cut=limit.expired())


def done_to(count: int, text: str, *, is_cut: bool = False) -> Done:
    """Return what was done to so many jobs, in words."""
    jobs = f"{count:,} {'job' if count == 1 else 'jobs'}"
    rest = f", and there are more: after {MOST_SECONDS:.0f} s this was all; do it again"
    return {"message": text.format(jobs) + (rest if is_cut else ""), "count": count}


@action("/queues/{queue}/limits")
async def limit_queue(
    visit: Visit,
    queue: str,
    *,
    concurrency: int | None = None,
    rate_max: int | None = None,
    rate_seconds: float | None = None,
) -> Done:
    """Set what holds for all workers together; what is left out has no limit from now on."""
    if (rate_max is None) != (rate_seconds is None):
        message = "a rate limit is rate_max jobs in rate_seconds: give both, or none of them"
        raise UsageError(message)
    found = await visit.dashboard.queue(queue)
    if concurrency is None:
        await found.remove_global_concurrency()
    else:
        await found.set_global_concurrency(concurrency)
    if rate_max is None or rate_seconds is None:
        await found.remove_global_rate_limit()
    else:
        await found.set_global_rate_limit(rate_max, rate_seconds)
    at_once = "any number of jobs" if concurrency is None else f"at most {concurrency:,} jobs"
    rate = "at any rate" if rate_max is None else f"{rate_max:,} in {rate_seconds:g} s"
    return {"message": f"queue {queue!r}: {at_once} at once, {rate}", "count": 1}


@action("/queues/{queue}/scale")
async def scale_workers(visit: Visit, queue: str, *, procs: int) -> Done:
    """Let each worker of a queue have so many children."""
    if not 1 <= procs <= _MOST_PROCS:
        message = f"procs must be 1 to {_MOST_PROCS}"
        raise UsageError(message)
    found = await visit.dashboard.queue(queue)
    answers = await ask_to_scale(await visit.dashboard.broker(), found.keys, procs)
    if not answers:
        return {"message": f"no worker of sandboxq answered for queue {queue!r}", "count": 0}
    told = ", ".join(f"{each['worker']}: {each['procs']}" for each in answers[:10])
    return {
        "message": f"{len(answers)} workers have {procs} children each ({told})",
        "count": len(answers),
    }


@action("/queues/{queue}/jobs")
async def add_job(  # noqa: PLR0913 - the parameters of the API
    visit: Visit,
    queue: str,
    *,
    name: str,
    data: Any = None,
    delay: float | None = None,
    priority: int | None = None,
    attempts: int | None = None,
    backoff: float | None = None,
    timeout: float | None = None,
    job_id: str | None = None,
    lifo: bool = False,
) -> Added:
    """Add a job; durations are seconds, and ``data`` is any JSON."""
    found = await visit.dashboard.queue(queue)
    options: dict[str, Any] = {
        "delay": delay,
        "priority": priority,
        "attempts": attempts,
        "backoff": backoff,
        "timeout": timeout,
        "job_id": job_id or None,
        "lifo": lifo,
    }
    job = await found.add(name, {} if data is None else data, **options)
    return {"message": f"job {job.id} was added to queue {queue!r}", "count": 1, "id": job.id}


class Added(Done):
    """The id of the job that was added, or that was there with this id."""

    id: str
