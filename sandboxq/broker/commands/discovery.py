"""Finds the queues of a prefix, the workers of a queue, and jobs that no state holds.

Finds jobs that no state holds, and removes them (protocol.md 3.21, gotcha G7).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from sandboxq.broker.commands.batches import BATCH
from sandboxq.broker.connect.script import load
from sandboxq.broker.keys import checked_queue_name
from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

# Keys that one SCAN step looks at: some hundred microseconds of Redis's time.
_KEYS_PER_STEP = 1000

# What means something in a SCAN pattern.
_GLOB = re.compile(r"[][*?^\\]")
# For each orphan the script looks through whole lists; so many entries take about a millisecond.
_ENTRIES_PER_CALL = 100_000
_IDS_PER_READ = 10_000
# No limit: more than any database holds.
_ALL = 2**53
_LISTS = ("wait", "paused", "active")


async def queue_names(broker: Broker, *, prefix: str) -> list[str]:
    """Return the names of all queues under the prefix, sorted; walks over the whole database."""
    pattern = literal_pattern(prefix) + ":*:meta"
    names: set[str] = set()
    async for page in broker.scan("MATCH", pattern, "COUNT", _KEYS_PER_STEP):
        for key in page:
            name = key.decode(errors="replace")[len(prefix) + 1 : -len(":meta")]
            if _is_usable(name):
                names.add(name)
    return sorted(names)


def _is_usable(name: str) -> bool:
    """Tell whether a queue can be called so; other programs write what they like."""
    try:
        return bool(checked_queue_name(name))
    except UsageError:
        return False


def literal_pattern(text: str) -> str:
    """Return a SCAN pattern that matches this text and nothing else."""
    return _GLOB.sub(r"\\\g<0>", text)


async def workers_of(broker: Broker, keys: QueueKeys) -> list[dict[str, str]]:
    """Return one row per connected worker: the fields of CLIENT LIST, ``name`` being the queue's.

    ``rawname`` is the connection's own name.
    """
    own = keys.client_name
    return await _clients(broker, keys, lambda name: name == own or name.startswith(f"{own}:w:"))


async def worker_counts(broker: Broker, queues: Iterable[QueueKeys]) -> dict[str, int]:
    """Return how many workers are connected for each of these queues, by its name."""
    names = {keys.client_name: keys.queue for keys in queues}
    counts = dict.fromkeys(names.values(), 0)
    for reply in await broker.command_to_each("CLIENT", "LIST"):
        found = Counter(_row(line).get("name", "").partition(":w:")[0] for line in _lines(reply))
        for name, queue in names.items():
            counts[queue] = max(counts[queue], found[name])
    return counts


async def listeners_of(broker: Broker, keys: QueueKeys) -> list[dict[str, str]]:
    """Return one row per connected QueueEvents, as ``workers_of`` does."""
    return await _clients(broker, keys, lambda name: name == f"{keys.client_name}:qe")


async def _clients(
    broker: Broker, keys: QueueKeys, is_wanted: Callable[[str], bool]
) -> list[dict[str, str]]:
    """Return the rows of one node: clients of a cluster may be connected to others by that name."""
    found = []
    for reply in await broker.command_to_each("CLIENT", "LIST"):
        rows = [{"name": "", **_row(line)} for line in _lines(reply)]
        found.append([row for row in rows if is_wanted(row["name"])])
    return [{**row, "name": keys.queue, "rawname": row["name"]} for row in max(found, key=len)]


def _lines(reply: bytes) -> list[str]:
    return reply.decode(errors="replace").splitlines()


def _row(line: str) -> dict[str, str]:
    fields = (part.partition("=") for part in line.split(" "))
    return {name: value for name, _, value in fields}


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
