"""Renews the locks of jobs that are being processed (bullmq-wire.md 3.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.batches import run_batches
from sandboxq.broker.script import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys


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
