"""Changes or removes all jobs of a state, and orphans (protocol.md 3.20, 3.21, gotcha G7).

Each step is one short script call for up to a hundred jobs, so that Redis can serve others between.
A walk that is given up leaves the steps done that were done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sandboxq.broker.commands.batches import BATCH
from sandboxq.broker.commands.jobs import LISTS
from sandboxq.broker.commands.settings import KEYS_PER_SCAN, literal_pattern
from sandboxq.broker.connect.script import load

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from sandboxq.broker.commands.change_job import Resets
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.connect.script import Script
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.model.job import JobState

# Ids read ahead: one round trip for ten script calls.
_IDS_PER_PAGE = 1000
# For each orphan the script looks through whole lists; so many entries take about a millisecond.
_ENTRIES_PER_CALL = 100_000
_IDS_PER_READ = 10_000
_ORPHAN_LISTS = ("wait", "paused", "active")

T = TypeVar("T", bound="str | bytes")
# No limit: more than any state holds.
_ALL = 2**53


async def retry_all(
    broker: Broker,
    keys: QueueKeys,
    *,
    state: JobState,
    until_ms: int,
    limit: int | None,
    resets: Resets,
) -> AsyncIterator[int]:
    """Let the jobs that finished until then wait again, oldest first; yield how many did.

    Jobs that finish meanwhile do not count, so a job that fails again is not taken twice.
    """
    head = (state.value, *map(int, resets))
    left = _ALL if limit is None else limit
    while left > 0:
        command = ("ZRANGEBYSCORE", keys[state], "-inf", until_ms, "LIMIT", 0)
        ids = await broker.command(*command, min(left, _IDS_PER_PAGE))
        if not ids:
            return
        async for done in _moved(broker, keys, load("reprocess"), head, ids):
            left -= done
            yield done


async def promote_all(broker: Broker, keys: QueueKeys, *, limit: int | None) -> AsyncIterator[int]:
    """Let delayed jobs wait from now on, those that are due first; yield how many did."""
    # Those that are there now: a job may fail and be delayed again while this goes on.
    left = int(await broker.command("ZCARD", keys["delayed"]))
    left = left if limit is None else min(left, limit)
    while left > 0:
        last = min(left, _IDS_PER_PAGE) - 1
        ids = await broker.command("ZRANGE", keys["delayed"], 0, last)
        if not ids:
            return
        async for done in _moved(broker, keys, load("promote"), (), ids):
            left -= done
            yield done


async def clean(
    broker: Broker, keys: QueueKeys, *, state: JobState, newest_ms: int, limit: int | None
) -> AsyncIterator[list[str]]:
    """Remove the jobs of a state that did not change since then, oldest first; yield their ids.

    Locked jobs and the next iterations of schedulers stay.
    """
    left = _ALL if limit is None else limit
    for name in LISTS.get(state, (state.value,)):
        async for ids in _removed(broker, keys, name, newest_ms=newest_ms, limit=left):
            left -= len(ids)
            yield ids


async def drain(broker: Broker, keys: QueueKeys, *, with_delayed: bool) -> AsyncIterator[list[str]]:
    """Remove what waits, and with priority, and delayed if asked for; yield the ids.

    Node cuts its lists by count, which may leave an id without a job and take out a scheduler's
    next iteration; here each job goes by its id.
    """
    names = ["wait", "paused", "prioritized", *(["delayed"] if with_delayed else [])]
    for name in names:
        # As many as there are now: producers may add as fast as this removes.
        counter = "LLEN" if _is_list(name) else "ZCARD"
        left = int(await broker.command(counter, keys[name]))
        # Workers that claim meanwhile move the places of those that stay, so look again.
        found = True
        while found and left > 0:
            found = False
            async for ids in _removed(broker, keys, name, limit=left):
                found = True
                left -= len(ids)
                yield ids


async def retry_some(
    broker: Broker, keys: QueueKeys, ids: Sequence[str], *, state: JobState, resets: Resets
) -> AsyncIterator[int]:
    """Let these jobs of a finished state wait again; yield how many did of each hundred."""
    head = (state.value, *map(int, resets))
    async for done in _moved(broker, keys, load("reprocess"), head, ids):
        yield done


async def promote_some(broker: Broker, keys: QueueKeys, ids: Sequence[str]) -> AsyncIterator[int]:
    """Let these delayed jobs wait from now on; yield how many did of each hundred."""
    async for done in _moved(broker, keys, load("promote"), (), ids):
        yield done


async def remove_some(
    broker: Broker, keys: QueueKeys, ids: Sequence[str], *, with_children: bool
) -> AsyncIterator[int]:
    """Remove these jobs, wherever they are; yield how many went of each hundred.

    Those that are being processed, and the next ones of schedulers, stay.
    """
    for some in _batches(ids):
        calls = [((keys.base,), (job_id, int(with_children))) for job_id in some]
        yield (await broker.scripts(load("remove"), calls)).count(1)


async def announce_cleaned(broker: Broker, keys: QueueKeys, count: int) -> None:
    """Tell listeners that so many jobs were cleaned."""
    await broker.command("XADD", keys["events"], "*", "event", "cleaned", "count", count)


async def _moved(
    broker: Broker, keys: QueueKeys, script: Script, head: Sequence[Argument], ids: Sequence[T]
) -> AsyncIterator[int]:
    """Yield how many jobs each call moved; the others were no longer there."""
    for batch in _batches(ids):
        codes = await broker.script(script, [keys.base], [*head, *batch])
        yield codes.count(0)


async def _removed(
    broker: Broker, keys: QueueKeys, name: str, *, newest_ms: int | None = None, limit: int = _ALL
) -> AsyncIterator[list[str]]:
    """Yield the ids that each call removed from a list or set, if any; at most ``limit`` in all."""
    newest: Argument = "" if newest_ms is None else newest_ms
    stayed = 0
    while limit > 0:
        ids = await _page(broker, keys, name, start=stayed, newest_ms=newest_ms)
        if not ids:
            return
        for batch in _batches(ids):
            args = [name, newest, limit, *batch]
            codes = await broker.script(load("clean"), [keys.base], args)
            gone = [
                job_id.decode(errors="replace")
                for job_id, code in zip(batch, codes, strict=True)
                if code
            ]
            limit -= len(gone)
            stayed += len(batch) - len(gone)
            if gone:
                yield gone


async def _page(
    broker: Broker, keys: QueueKeys, name: str, *, start: int, newest_ms: int | None
) -> list[bytes]:
    """Return the ids that follow after the ``start`` oldest."""
    ids: list[bytes]
    if name in {"completed", "failed"} and newest_ms is not None:
        command = ("ZRANGEBYSCORE", keys[name], "-inf", newest_ms, "LIMIT", start, _IDS_PER_PAGE)
        ids = await broker.command(*command)
    elif _is_list(name):
        # The oldest are at the tail.
        ids = await broker.command("LRANGE", keys[name], -start - _IDS_PER_PAGE, -start - 1)
        ids.reverse()
    else:
        ids = await broker.command("ZRANGE", keys[name], start, start + _IDS_PER_PAGE - 1)
    return ids


def _is_list(name: str) -> bool:
    return any(name in names for names in LISTS.values())


def _batches(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    return (ids[first : first + BATCH] for first in range(0, len(ids), BATCH))


async def remove_orphans(
    broker: Broker, keys: QueueKeys, *, limit: int | None
) -> AsyncIterator[list[str]]:
    """Walk over the whole database, remove jobs that no state holds, and yield their ids."""
    left = _ALL if limit is None else limit
    listed = await _listed(broker, keys)
    per_call = max(1, min(BATCH, _ENTRIES_PER_CALL // (len(listed) + 1)))
    async for found in _hashes(broker, keys):
        # Saves the script from looking for jobs that wait; the script decides.
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
    for name in _ORPHAN_LISTS:
        first = 0
        while ids := await broker.command("LRANGE", keys[name], first, first + _IDS_PER_READ - 1):
            listed.update(ids)
            first += len(ids)
    return listed


async def _hashes(broker: Broker, keys: QueueKeys) -> AsyncIterator[list[bytes]]:
    """Yield what follows the base in the names of the queue's hashes, job or not."""
    match = ("MATCH", literal_pattern(keys.base) + "*", "TYPE", "hash", "COUNT", KEYS_PER_SCAN)
    skipped = len(keys.base.encode())
    async for page in broker.scan(*match):
        yield [key[skipped:] for key in page]
