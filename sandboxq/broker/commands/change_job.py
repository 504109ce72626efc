"""Changes one job: its state, priority, delay and data; cancels it (protocol.md 3.17, 3.20, 3.21).

Also reads and removes deduplication keys (3.5), and removes whole queues. A job that waits is
cancelled by failing it, a job that runs is told to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.codec import options_from_wire
from sandboxq.broker.commands.attempts import Report, failure_row, report
from sandboxq.broker.commands.settings import forget_usage
from sandboxq.broker.commands.workers import CancelRequest, ask_to_cancel
from sandboxq.broker.connect.script import load
from sandboxq.errors import (
    CancelNotHeard,
    JobBelongsToScheduler,
    JobCancelled,
    JobLocked,
    JobNotFound,
    JobNotInState,
    OptionsUnreadable,
    QueueError,
    QueueHasActiveJobs,
    QueueNotPaused,
)
from sandboxq.model.job import KEEP_ALL, JobOptions
from sandboxq.model.outcome import Fail, Failed

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.model.job import JobState

# Asks for no lock: operators may change a job that somebody runs.
_NO_TOKEN = b"0"

# Jobs per call: so many removals block Redis for a few milliseconds.
_JOBS_PER_CALL = 250
# Between the look at the job and the question to the workers it may have changed its state, or be
# on its way to the worker that claimed it.
_ROUNDS = 4
# No number of attempts is reached: what was cancelled has not used them up.
_NEVER = 2**53 - 1


class Resets(NamedTuple):
    """What a job that is retried forgets: how often it was tried, how often it was started."""

    attempts_made: bool = False
    attempts_started: bool = False


async def promote(broker: Broker, keys: QueueKeys, job_id: str) -> None:
    """Let a delayed job wait from now on. Raises: JobNotFound, JobNotInState."""
    (code,) = await broker.script(load("promote"), [keys.base], [job_id])
    _check(code, keys, job_id, wanted="delayed")


async def change_delay(
    broker: Broker, keys: QueueKeys, job_id: str, *, delay_ms: int, now_ms: int
) -> None:
    """Delay a delayed job by so much from now. Raises: JobNotFound, JobNotInState."""
    code = await broker.script(load("change_delay"), [keys.base], [now_ms, job_id, delay_ms])
    _check(code, keys, job_id, wanted="delayed")


async def change_priority(
    broker: Broker, keys: QueueKeys, job_id: str, *, priority: int, is_first: bool
) -> None:
    """Give a job a priority; one that waits goes behind, or in front of, all that have it.

    Raises: JobNotFound.
    """
    args = (job_id, priority, int(is_first))
    _check(await broker.script(load("change_priority"), [keys.base], args), keys, job_id)


async def retry(
    broker: Broker, keys: QueueKeys, job_id: str, *, state: JobState, resets: Resets
) -> None:
    """Let a completed or failed job wait again. Raises: JobNotFound, JobNotInState."""
    (code,) = await broker.script(
        load("reprocess"), [keys.base], [state, *map(int, resets), job_id]
    )
    _check(code, keys, job_id, wanted=state)


async def update(
    broker: Broker, keys: QueueKeys, job_id: str, kind: str, payload: str, *, keep_logs: int = 0
) -> None:
    """Write ``progress`` or ``data`` (JSON) of a job, or a ``log`` line, whoever runs it.

    Raises: JobNotFound.
    """
    row = Report(job_id.encode(), _NO_TOKEN, kind, payload.encode(), keep_logs)
    (code,) = await report(broker, keys, [row])
    if isinstance(code, QueueError):
        raise code
    _check(code, keys, job_id)


async def count_logs(broker: Broker, keys: QueueKeys, job_id: str) -> int:
    """Return how many lines a job's log has."""
    return int(await broker.command("LLEN", keys[f"{job_id}:logs"]))


async def clear_logs(broker: Broker, keys: QueueKeys, job_id: str, *, keep: int) -> None:
    """Remove all but the newest ``keep`` lines of a job's log."""
    key = keys[f"{job_id}:logs"]
    if keep:
        await broker.command("LTRIM", key, -keep, -1)
    else:
        await broker.command("DEL", key)


def _check(code: int, keys: QueueKeys, job_id: str, *, wanted: str = "") -> None:
    match code:
        case 0:
            return
        case -1:
            message = f"job {job_id} does not exist in queue {keys.queue}"
            raise JobNotFound(message)
        case -3:
            message = f"job {job_id} of queue {keys.queue} is not {wanted}"
            raise JobNotInState(message)
        case _:
            message = f"job {job_id} was not changed: script code {code}"
            raise QueueError(message)


async def deduplicated_job_id(broker: Broker, keys: QueueKeys, deduplication_id: str) -> str | None:
    """Return the id of the job that counts for this deduplication id, None when none does."""
    reply = await broker.command("GET", keys[f"de:{deduplication_id}"])
    return None if reply is None else reply.decode(errors="replace")


async def release_deduplication(
    broker: Broker, keys: QueueKeys, deduplication_id: str, *, job_id: str | None
) -> bool:
    """Let the next add with this id add a job; with ``job_id`` only if that job counts now."""
    if job_id is None:
        return bool(await broker.command("DEL", keys[f"de:{deduplication_id}"]))
    script, args = load("release_deduplication"), (deduplication_id, job_id)
    return bool(await broker.script(script, [keys.base], args))


async def remove(
    broker: Broker, keys: QueueKeys, job_id: str, *, with_children: bool = True
) -> bool:
    """Remove a job wherever it is; False means that there is none.

    Raises: JobLocked, JobBelongsToScheduler; nothing was removed then.
    """
    code = await broker.script(load("remove"), [keys.base], [job_id, int(with_children)])
    match code:
        case 1:
            return True
        case -1:
            return False
        case 0:
            message = f"Job {job_id} could not be removed because it is locked by another worker"
            raise JobLocked(message)
        case -8:
            message = f"Job {job_id} belongs to a job scheduler and cannot be removed directly"
            raise JobBelongsToScheduler(message)
        case _:
            message = f"Job {job_id} was not removed: script code {code}"
            raise QueueError(message)


async def obliterate(broker: Broker, keys: QueueKeys, *, force: bool) -> None:
    """Remove a paused queue; ``force`` removes active jobs too. Jobs in waiting-children stay.

    Raises: QueueNotPaused, QueueHasActiveJobs.
    """
    script = load("obliterate")
    while code := await broker.script(script, [keys.base], [_JOBS_PER_CALL, int(force)]):
        if code == -1:
            message = f"Cannot obliterate non-paused queue {keys.queue}"
            raise QueueNotPaused(message)
        if code == -2:  # noqa: PLR2004 - a script code
            message = f"Cannot obliterate queue {keys.queue} with active jobs"
            raise QueueHasActiveJobs(message)
    await forget_usage(broker, keys)


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
            message = f"job {job_id} is the next one of its scheduler: remove the scheduler instead"
            raise JobBelongsToScheduler(message)
        if state != "active":
            message = f"job {job_id} of queue {keys.queue} is {state}: there is nothing to cancel"
            raise JobNotInState(message)
        worker = await ask_to_cancel(broker, keys, CancelRequest(job_id, reason, grace))
        if worker is not None:
            return worker
    message = (
        f"job {job_id} of queue {keys.queue} is active, but no worker of sandboxq has it: a worker "
        "of Node.js runs it, or its worker has died and the check for stalled jobs will find it"
    )
    raise CancelNotHeard(message)


async def cancel_unless_begun(
    broker: Broker, keys: QueueKeys, job_id: str, *, reason: str, now_ms: int
) -> bool:
    """Cancel a job unless a worker has claimed it; return whether. Raises: JobNotFound."""
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
