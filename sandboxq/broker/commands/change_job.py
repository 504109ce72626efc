"""Changes one job: where and when it waits, what it holds (protocol.md 3.17, 3.20)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.commands.running import Report, report
from sandboxq.broker.connect.script import load
from sandboxq.errors import JobNotFound, JobNotInState, QueueError

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.model.job import JobState

# Asks for no lock: operators may change a job that somebody runs.
_NO_TOKEN = b"0"


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
    """Let a delayed job wait so long from now. Raises: JobNotFound, JobNotInState."""
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
