"""Kill and Tell: what people do to a running job, and what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sandboxq.broker.commands.jobs import state_of
from sandboxq.broker.commands.workers import ask_to_tell
from sandboxq.errors import CancelNotHeard, JobNotInState, UsageError
from sandboxq.model.job import JobState
from sandboxq.model.validation import checked_text
from sandboxq.web.actions import Done, Visit, action

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

# Seconds: the longest grace that is waited for, and for the end after it.
MOST_GRACE, _AFTER_GRACE = 20.0, 5.0
MOST_TEXT = 2000
_LOOK = 0.05


@action("/queues/{queue}/jobs/{job_id}/kill")
async def kill_job(
    visit: Visit, queue: str, job_id: str, *, reason: str = "", grace: float = 5.0
) -> Done:
    """End a job: its code is told, and its process killed when it has not ended after the grace."""
    if not 0 <= grace <= MOST_GRACE:
        message = f"grace must be between 0 and {MOST_GRACE:g} seconds, not {grace:g}"
        raise UsageError(message)
    why = f"{visit.visitor.name}, on the page"
    if reason.strip():
        why += f": {checked_text('reason', reason.strip())}"
    found = await visit.dashboard.queue(queue)
    try:
        worker = await found.cancel(job_id, why, grace=grace)
    except JobNotInState as error:
        return {"message": f"it was done already: {error}", "count": 0}
    except CancelNotHeard as error:
        return {"message": f"no worker answered: {error}", "count": 0}
    if worker is None:
        return {"message": f"job {job_id} had not begun: it has failed at once", "count": 1}
    broker = await visit.dashboard.broker()
    came = await _what_came(broker, found.keys, job_id, seconds=grace + _AFTER_GRACE)
    return {"message": f"{came} (worker {worker})", "count": 1}


async def _what_came(broker: Broker, keys: QueueKeys, job_id: str, *, seconds: float) -> str:
    """Wait for the end of a job whose worker was told to end it; return what happened."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while (state := await state_of(broker, keys, job_id)) is JobState.ACTIVE:
        if clock() > deadline:
            return f"job {job_id} was told to end, and still runs after {seconds:g} s"
        await asyncio.sleep(_LOOK)
    if state is JobState.UNKNOWN:
        return f"job {job_id} has ended, and was removed"
    cause, end = await broker.command("HMGET", keys[job_id], "sq:cause", "sq:end")
    if state is not JobState.FAILED or cause != b"JobCancelled":
        return f"job {job_id} was {state.value} before it could be ended"
    match end:
        case b"hard":
            return f"job {job_id} did not end by itself, and was killed"
        case b"soft":
            return f"job {job_id} has ended by itself when it was told to"
        case _:
            return f"job {job_id} had not begun: it has failed at once"


@action("/queues/{queue}/jobs/{job_id}/tell")
async def tell_job(visit: Visit, queue: str, job_id: str, *, message: str) -> Done:
    """Leave a message for the code of a running job, which reads it by job.messages()."""
    words = checked_text("message", message.strip())[:MOST_TEXT]
    keys = (await visit.dashboard.queue(queue)).keys
    broker = await visit.dashboard.broker()
    answer = await ask_to_tell(broker, keys, job_id, words)
    if answer is None:
        state = await state_of(broker, keys, job_id)
        if state is JobState.ACTIVE:
            return {"message": f"no worker of sandboxq has job {job_id}", "count": 0}
        return {"message": f"job {job_id} is {state.value}: nobody is there to read", "count": 0}
    if answer.get("is_full"):
        came = "has not read the messages before, and has no room for more"
        return {"message": f"job {job_id} {came}", "count": 0}
    came = "has read it"
    if not answer.get("is_read"):
        came = "has not read it yet: its code does when it calls job.messages()"
    return {"message": f"job {job_id} {came}", "count": 1}
