"""Gives back what a claim took whose reply was lost with the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.settle import Settlement, settle
from sandboxq.outcome import HandBack

if TYPE_CHECKING:
    from sandboxq.worker.context import WorkerContext

# A claim puts its jobs in front of the active list; what others have claimed since is before them.
_LOOK_AT = 2000


async def give_back_unanswered(context: WorkerContext, token: str) -> int:
    """Put the jobs that are locked by ``token`` back where they were; return how many.

    Nobody knows of them: without this they would stay active until they are found stalled.
    """
    broker, keys = context.broker, context.keys
    ids = await broker.command("LRANGE", keys["active"], 0, _LOOK_AT - 1)
    if not ids:
        return 0
    lock_keys = [keys.base.encode() + job_id + b":lock" for job_id in ids]
    locks = await broker.command("MGET", *lock_keys)
    raw = token.encode()
    mine = [job_id for job_id, lock in zip(ids, locks, strict=True) if lock == raw]
    in_order = [Settlement(job_id, raw, HandBack()) for job_id in reversed(mine)]
    await settle(broker, keys, in_order, now_ms=context.clock.now_ms())
    return len(mine)
