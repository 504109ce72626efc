"""What is done to one job: retry, remove, promote, another delay or priority.

Kill and Tell are in job_actions.py.
"""

from __future__ import annotations

from typing import Literal

from sandboxq.errors import JobNotFound
from sandboxq.web.actions import Done, Visit, action


@action("/queues/{queue}/jobs/{job_id}/retry")
async def retry_job(
    visit: Visit,
    queue: str,
    job_id: str,
    *,
    state: Literal["completed", "failed"] | None = None,
    reset_attempts: bool = True,
) -> Done:
    """Let a failed, or completed, job wait again, with all its attempts if they are reset."""
    found = await visit.dashboard.queue(queue)
    wanted = state or (await found.job_state(job_id)).value
    wanted = wanted if wanted in {"completed", "failed"} else "failed"
    await found.retry(job_id, wanted, reset_attempts_made=reset_attempts)
    return {"message": f"job {job_id} waits again", "count": 1}


@action("/queues/{queue}/jobs/{job_id}/remove")
async def remove_job(visit: Visit, queue: str, job_id: str, *, with_children: bool = True) -> Done:
    """Remove a job wherever it is, and its children; not while it is being processed."""
    found = await visit.dashboard.queue(queue)
    if not await found.remove(job_id, with_children=with_children):
        message = f"job {job_id!r} does not exist in queue {queue!r}"
        raise JobNotFound(message)
    return {"message": f"job {job_id} was removed", "count": 1}


@action("/queues/{queue}/jobs/{job_id}/promote")
async def promote_job(visit: Visit, queue: str, job_id: str) -> Done:
    """Let a delayed job wait from now on."""
    await (await visit.dashboard.queue(queue)).promote(job_id)
    return {"message": f"job {job_id} waits from now on", "count": 1}


@action("/queues/{queue}/jobs/{job_id}/delay")
async def delay_job(visit: Visit, queue: str, job_id: str, *, delay: float) -> Done:
    """Delay a delayed job by so many seconds from now."""
    await (await visit.dashboard.queue(queue)).change_delay(job_id, delay)
    return {"message": f"job {job_id} is delayed by {delay:g} s from now", "count": 1}


@action("/queues/{queue}/jobs/{job_id}/priority")
async def prioritize_job(
    visit: Visit, queue: str, job_id: str, *, priority: int, lifo: bool = False
) -> Done:
    """Give a job another priority: 0 is none, 1 the most urgent."""
    await (await visit.dashboard.queue(queue)).change_priority(job_id, priority, lifo=lifo)
    return {"message": f"job {job_id} has the priority {priority} now", "count": 1}
