"""Pauses and resumes a queue (bullmq-wire.md 3.19)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.script import load

if TYPE_CHECKING:
    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys

# Only queues shared with v5 clients move ids at all; so many take Redis about a millisecond.
_IDS_PER_CALL = 5000


async def pause(broker: Broker, keys: QueueKeys) -> None:
    """Stop the queue's workers from claiming."""
    await _until_moved(broker, keys, "pause")


async def resume(broker: Broker, keys: QueueKeys) -> None:
    """Let the queue's workers claim again, and wake one."""
    await _until_moved(broker, keys, "resume")


async def is_paused(broker: Broker, keys: QueueKeys) -> bool:
    """Tell whether the queue is paused."""
    return bool(await broker.command("HEXISTS", keys["meta"], "paused"))


async def _until_moved(broker: Broker, keys: QueueKeys, name: str) -> None:
    while await broker.script(load(name), [keys.base], [_IDS_PER_CALL]):
        pass
