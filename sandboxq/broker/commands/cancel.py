"""Cancels jobs: those that wait are failed, those that run are told to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.codec import options_from_wire
from sandboxq.broker.commands.control import CancelRequest, ask_to_cancel
from sandboxq.broker.commands.settle import failure_row
from sandboxq.broker.connect.script import load
from sandboxq.errors import (
    CancelNotHeard,
    JobBelongsToScheduler,
    JobCancelled,
    JobNotFound,
    JobNotInState,
    OptionsUnreadable,
)
from sandboxq.model.job import KEEP_ALL, JobOptions
from sandboxq.model.outcome import Fail, Failed

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

# Between the look at the job and the question to the workers it may have changed its state, or be
# on its way to the worker that claimed it.
_ROUNDS = 4
# No number of attempts is reached: what was cancelled has not used them up.
_NEVER = 2**53 - 1


async def cancel(
    broker: Broker, keys: QueueKeys, job_id: str, *, reason: str, grace: float, now_ms: int
) -> str | None:
    """Cancel a job; return the name of the worker that runs it, None when it had not begun.

    Raises: JobNotFound, JobNotInState when it has ended, JobBelongsToScheduler, CancelNotHeard.
    """
    for _ in range(_ROUNDS):
        state = await _fail_unless_begun(broker, keys, job_id, reason, now_ms)
        if state == "cancelled":
            return None
        if state == "scheduler":
            message = f"job {job_id} is the next one of its scheduler: remove that instead"
            raise JobBelongsToScheduler(message)
        if state != "active":
            message = f"job {job_id} of queue {keys.queue} is {state}: there is nothing to cancel"
            raise JobNotInState(message)
        worker = await ask_to_cancel(broker, keys, CancelRequest(job_id, reason, grace))
        if worker is not None:
            return worker
    message = (
        f"job {job_id} of queue {keys.queue} is active, but no worker of sandboxq says that it has"
        " it: Node's run it, or its worker has died and it will be found stalled"
    )
    raise CancelNotHeard(message)


async def cancel_unless_begun(
    broker: Broker, keys: QueueKeys, job_id: str, *, reason: str, now_ms: int
) -> bool:
    """Cancel a job that nobody has claimed; tell whether it was so. Raises: JobNotFound."""
    return await _fail_unless_begun(broker, keys, job_id, reason, now_ms) == "cancelled"


async def _fail_unless_begun(
    broker: Broker, keys: QueueKeys, job_id: str, reason: str, now_ms: int
) -> str:
    raw = await broker.command("HMGET", keys[job_id], "name", "opts")
    if raw[0] is None:
        message = f"job {job_id} does not exist in queue {keys.queue}"
        raise JobNotFound(message)
    try:
        options = options_from_wire(raw[1] or b"{}")
    except OptionsUnreadable:
        options = JobOptions()
    failure = Failed(reason, cause=JobCancelled.__name__, is_unrecoverable=True)
    keep = options.remove_on_fail or KEEP_ALL
    text, rule = failure_row(Fail(failure, keep, options.stack_trace_limit, _NEVER))
    reply: bytes = await broker.script(load("cancel"), (keys.base,), (now_ms, job_id, text, rule))
    return reply.decode()
