"""Takes back jobs whose worker is gone (bullmq-wire.md 3.18)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.script import load

# The pass that is made an interval after the last one must find that its time has come.
_EXPIRY = 0.95

if TYPE_CHECKING:
    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys


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
