"""The locks of running jobs: renewed, and taken back from workers that are gone.

Renews the locks of jobs that are being processed (protocol.md 3.7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.commands.batches import run_batches
from sandboxq.broker.connect.script import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

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
