"""Looks at deduplication keys and removes them (protocol.md 3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.connect.script import load

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys


async def job_id_of(broker: Broker, keys: QueueKeys, deduplication_id: str) -> str | None:
    """Return the id of the job that counts for this deduplication id, None when none does."""
    reply = await broker.command("GET", keys[f"de:{deduplication_id}"])
    return None if reply is None else reply.decode(errors="replace")


async def release(
    broker: Broker, keys: QueueKeys, deduplication_id: str, *, job_id: str | None
) -> bool:
    """Let the next add with this id add a job; with ``job_id`` only if that job counts now."""
    if job_id is None:
        return bool(await broker.command("DEL", keys[f"de:{deduplication_id}"]))
    script, args = load("release_deduplication"), (deduplication_id, job_id)
    return bool(await broker.script(script, [keys.base], args))
