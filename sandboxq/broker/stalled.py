"""Takes back jobs whose worker is gone (bullmq-wire.md 3.18)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.script import load

if TYPE_CHECKING:
    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys


async def recover_stalled(
    broker: Broker, keys: QueueKeys, *, now_ms: int, interval_ms: int, max_stalled_count: int
) -> list[bytes]:
    """Put active jobs without a lock back into the queue, and return their ids.

    Needs two passes: the first notes who is active, the next takes who has not renewed since. One
    pass runs in ``interval_ms``, whoever asks for it. A job that stalled more than
    ``max_stalled_count`` times goes back with a deferred failure: who claims it must fail it.
    """
    args = (now_ms, interval_ms, max_stalled_count)
    ids: list[bytes] = await broker.script(load("stalled"), (keys.base,), args)
    return ids
