"""What changes while a job runs: its lock (protocol.md 3.7), and what its code reports (3.17).

Reports are progress, log lines and changed data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from redis.exceptions import ResponseError

from sandboxq.broker.commands.batches import BATCH, NO_MARK, marked, run_batches, run_rows
from sandboxq.broker.connect.connection import error_from_reply
from sandboxq.broker.connect.script import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.commands.batches import Mark
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.errors import QueueError

# The pass that is made an interval after the last one must find that its time has come.
_EXPIRY = 0.95


async def extend(
    broker: Broker,
    keys: QueueKeys,
    held: Sequence[tuple[bytes, bytes, int | bytes]],
    *,
    lock_ms: int,
    retake: bool = False,
    timeout: float | None = None,
) -> list[bytes]:
    """Make these locks last ``lock_ms`` from now: job id, token, attempts started (b"": unknown).

    ``timeout`` is how many seconds of silence are allowed when that is less than usual.
    ``retake`` takes a lock again that has run out, if its job is still active and nobody else has
    claimed it since.
    Returns the ids whose lock is missing or somebody else's: those jobs are no longer ours.
    """
    head = (lock_ms, int(retake))
    replies = await run_batches(broker, load("extend"), keys, head, held, timeout=timeout)
    return [job_id for reply in replies for job_id in reply]


async def recover_stalled(
    broker: Broker,
    keys: QueueKeys,
    *,
    now_ms: int,
    interval_ms: int,
    max_stalled_count: int,
    is_server_time: bool = False,
) -> list[bytes]:
    """Put active jobs without a lock back into the queue, and return their ids.

    Needs two passes: the first notes who is active, the next takes who has not renewed since. One
    pass runs in ``interval_ms``, whoever asks for it. A job that stalled more than
    ``max_stalled_count`` times goes back with a deferred failure: who claims it must fail it.
    Where ``now_ms`` is by the server's clock, nothing is done when the call was held up: Redis
    stood still, and nobody could renew.
    """
    expiry_ms = round(interval_ms * _EXPIRY)
    args = (now_ms, expiry_ms, max_stalled_count, int(is_server_time))
    ids: list[bytes] = await broker.script(load("stalled"), (keys.base,), args)
    return ids


async def put_off_stalled(broker: Broker, keys: QueueKeys, *, now_ms: int, for_ms: int) -> None:
    """Let nobody, Node's workers included, check the queue for so long.

    Raises: BrokerUnavailable, QueueError.
    """
    key = keys["stalled-check"]
    if int(await broker.command("PTTL", key)) < for_ms:
        await broker.command("SET", key, now_ms, "PX", for_ms)


class Report(NamedTuple):
    """Something that the run which holds ``token`` says of its job.

    ``kind`` is ``progress`` or ``data`` (payload: JSON text), ``log`` (payload: one row of
    the log) or ``lines`` (payload: several, with newlines between them).
    ``keep_logs`` is how many log lines stay; 0: all.
    """

    job_id: bytes
    token: bytes
    kind: str
    payload: bytes
    keep_logs: int = 0


async def report(
    broker: Broker, keys: QueueKeys, reports: Sequence[Report], *, mark: Mark = NO_MARK
) -> list[int | QueueError]:
    """Write these reports in order; return one code for each.

    0; or -1: no such job, -2: it has no lock, -6: somebody else's lock, and nothing was written; or
    why Redis could not write this one.
    """
    codes = await run_rows(broker, load("report"), keys, (), reports, mark=mark)
    return [
        code
        if isinstance(code, int)
        else error_from_reply(ResponseError(code.decode(errors="replace")))
        for code in codes
    ]


async def reported(broker: Broker, mark: Mark, reports: Sequence[Report]) -> list[bool]:
    """Tell which of these were dealt with by a ``report`` with this mark whose reply was lost.

    Raises: BrokerUnavailable.
    """
    calls = await marked(broker, mark)
    return [place // BATCH in calls for place in range(len(reports))]
