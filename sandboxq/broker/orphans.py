"""Finds jobs that no state holds, and removes them (bullmq-wire.md 3.21, gotcha G7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.batches import BATCH
from sandboxq.broker.census import literal_pattern
from sandboxq.broker.script import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys

# Keys that one SCAN step looks at: some hundred microseconds of Redis's time.
_KEYS_PER_STEP = 1000

# For each orphan the script looks through whole lists; so many entries take about a millisecond.
_ENTRIES_PER_CALL = 100_000
_IDS_PER_READ = 10_000

# No limit: more than any database holds.
_ALL = 2**53

_LISTS = ("wait", "paused", "active")


async def remove_orphans(
    broker: Broker, keys: QueueKeys, *, limit: int | None
) -> AsyncIterator[list[str]]:
    """Walk over the whole database, remove jobs that no state holds, and yield their ids."""
    left = _ALL if limit is None else limit
    listed = await _listed(broker, keys)
    per_call = max(1, min(BATCH, _ENTRIES_PER_CALL // (len(listed) + 1)))
    async for found in _hashes(broker, keys):
        # Saves the script from looking for those that surely wait; it alone decides, anew.
        suspects = [suffix for suffix in found if suffix not in listed]
        while suspects and left > 0:
            count = min(per_call, left)
            batch, suspects = suspects[:count], suspects[count:]
            removed = await broker.script(load("orphans"), [keys.base], batch)
            left -= len(removed)
            if removed:
                yield [job_id.decode(errors="replace") for job_id in removed]


async def _listed(broker: Broker, keys: QueueKeys) -> set[bytes]:
    listed: set[bytes] = set()
    for name in _LISTS:
        first = 0
        while ids := await broker.command("LRANGE", keys[name], first, first + _IDS_PER_READ - 1):
            listed.update(ids)
            first += len(ids)
    return listed


async def _hashes(broker: Broker, keys: QueueKeys) -> AsyncIterator[list[bytes]]:
    """Yield what follows the base in the names of the queue's hashes, job or not."""
    match = ("MATCH", literal_pattern(keys.base) + "*", "TYPE", "hash", "COUNT", _KEYS_PER_STEP)
    skipped = len(keys.base.encode())
    async for page in broker.scan(*match):
        yield [key[skipped:] for key in page]
