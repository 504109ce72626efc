"""Reads and removes the links between a job and its children (protocol.md 3.21, 3.24)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.connect.script import load
from sandboxq.errors import JobNotFound, ParentNotFound
from sandboxq.model import dependencies as words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.keys import QueueKeys

# By kind: the part of the job's key that holds such children, and how it is read whole and in part.
_READS = {
    "processed": ("processed", ("HGETALL",), "HSCAN"),
    "unprocessed": ("dependencies", ("SMEMBERS",), "SSCAN"),
    "ignored": ("failed", ("HGETALL",), "HSCAN"),
    "failed": ("unsuccessful", ("ZRANGE", 0, -1), "ZRANGE"),
}
_COUNTERS = {"processed": "HLEN", "unprocessed": "SCARD", "ignored": "HLEN", "failed": "ZCARD"}

Command = tuple["Argument", ...]


def commands_of(
    keys: QueueKeys, job_id: str, question: int, page: words.Page | None = None
) -> list[Command]:
    """Return the commands whose replies answer a question of ``sandboxq.model.dependencies``."""
    match question:
        case words.VALUES:
            return [_whole(keys, job_id, "processed")]
        case words.IGNORED:
            return [_whole(keys, job_id, "ignored")]
        case words.FAILED:
            return [_whole(keys, job_id, "failed")]
        case words.COUNTS:
            return [(_COUNTERS[kind], _key(keys, job_id, kind)) for kind in words.KINDS]
        case words.PAGE if page is not None:
            pairs = zip(words.KINDS, page.starts, strict=True)
            return [
                _part(keys, job_id, kind, start, page.size)
                for kind, start in pairs
                if start is not None
            ]
        case _:
            return [_whole(keys, job_id, kind) for kind in words.KINDS]


def _key(keys: QueueKeys, job_id: str, kind: str) -> str:
    return keys[f"{job_id}:{_READS[kind][0]}"]


def _whole(keys: QueueKeys, job_id: str, kind: str) -> Command:
    name, *arguments = _READS[kind][1]
    return (name, _key(keys, job_id, kind), *arguments)


def _part(keys: QueueKeys, job_id: str, kind: str, start: int, count: int) -> Command:
    name, key = _READS[kind][2], _key(keys, job_id, kind)
    if name == "ZRANGE":
        return (name, key, start, start + count - 1)
    return (name, key, start, "COUNT", count)


# ── questions ───────────────────────────────────────────────────────────────


async def values_of(broker: Broker, keys: QueueKeys, job_id: str) -> dict[str, Any]:
    """Return the values of the children that completed, by their keys."""
    return words.values_from(await _answer(broker, keys, job_id, words.VALUES))


async def ignored_of(broker: Broker, keys: QueueKeys, job_id: str) -> dict[str, str]:
    """Return the reasons of the children whose failure did not fail the job, by their keys."""
    return words.reasons_from(await _answer(broker, keys, job_id, words.IGNORED))


async def failed_of(broker: Broker, keys: QueueKeys, job_id: str) -> list[str]:
    """Return the keys of the children that failed the job, the first failure first."""
    return words.keys_from(await _answer(broker, keys, job_id, words.FAILED))


async def _answer(broker: Broker, keys: QueueKeys, job_id: str, question: int) -> Any:
    (reply,) = await broker.pipeline(commands_of(keys, job_id, question))
    return reply


async def counts_of(broker: Broker, keys: QueueKeys, job_id: str) -> dict[str, int]:
    """Return how many children of each kind the job has."""
    return words.counts_from(
        await broker.pipeline(commands_of(keys, job_id, words.COUNTS)),
    )


async def dependencies_of(
    broker: Broker, keys: QueueKeys, job_id: str, page: words.Page | None = None
) -> words.Dependencies:
    """Return all children of the job, or a page of them."""
    question = words.ALL if page is None else words.PAGE
    replies = await broker.pipeline(commands_of(keys, job_id, question, page))
    return words.all_from(replies) if page is None else words.page_from(replies, page)


class ChildRange(NamedTuple):
    """Some children of one kind, in no order of their own: (key, value or reason) of each."""

    total: int
    items: list[tuple[str, bytes]]


async def range_of(
    broker: Broker, keys: QueueKeys, job_id: str, kind: str, *, start: int, end: int
) -> ChildRange:
    """Return the children ``start`` to ``end`` (inclusive; -1 is the last) of one of KINDS."""
    key, scan = _key(keys, job_id, kind), _READS[kind][2]
    total = int(await broker.command(_COUNTERS[kind], key))
    last = total - 1 if end < 0 else min(end, total - 1)
    wanted = last - start + 1
    if wanted < 1:
        return ChildRange(total, [])
    if scan == "ZRANGE":
        found = await broker.command("ZRANGE", key, start, last)
    else:
        found = await _scanned(broker, key, scan, start, wanted)
    # SCAN may tell of a child twice.
    values = (
        dict(zip(found[::2], found[1::2], strict=True))
        if scan == "HSCAN"
        else dict.fromkeys(found, b"")
    )
    return ChildRange(total, [(key.decode(errors="replace"), raw) for key, raw in values.items()])


async def _scanned(broker: Broker, key: str, scan: str, skip: int, wanted: int) -> list[bytes]:
    """Return what SCAN gives after the first ``skip`` children; names, or names and values."""
    step = 2 if scan == "HSCAN" else 1
    found: list[bytes] = []
    cursor = b"0"
    while True:
        arguments = (scan, cursor, skip, wanted - len(found) // step)
        cursor, skip, more = await broker.script(load("children_range"), [key], arguments)
        found += more
        if int(cursor) == 0 or len(found) >= wanted * step:
            return found


# ── cutting ─────────────────────────────────────────────────────────────────


async def unlink(broker: Broker, keys: QueueKeys, job_id: str) -> bool:
    """Unlink a job from its parent; False when no parent waits for it.

    Raises: JobNotFound, ParentNotFound.
    """
    code = await broker.script(load("unlink_child"), [keys.base], [job_id])
    if code == -1:
        message = f"job {job_id} does not exist in queue {keys.queue}"
        raise JobNotFound(message)
    if code == -5:  # noqa: PLR2004 - a script code
        message = f"the parent of job {job_id} does not exist"
        raise ParentNotFound(message)
    return bool(code)


async def prune(
    broker: Broker, keys: QueueKeys, job_id: str, progress: Callable[[int], None]
) -> int:
    """Remove the pending children, in bounded calls; ``progress`` gets the number so far."""
    cursor, removed = b"0", 0
    while True:
        cursor, count = await broker.script(load("prune"), [keys.base], [job_id, cursor])
        removed += int(count)
        progress(removed)
        if int(cursor) == 0:
            return removed


# ── a flow, drawn ───────────────────────────────────────────────────────────


class Family(NamedTuple):
    """A job's hash, empty when there is no such job, and the keys of its first children."""

    fields: dict[bytes, bytes]
    children: list[str]


# Each is a hash and four short looks.
_FAMILIES_PER_CALL = 50


async def families_of(broker: Broker, job_keys: Sequence[str], *, limit: int) -> list[Family]:
    """Return these jobs, each with at most ``limit`` children of each kind."""
    families: list[Family] = []
    for first in range(0, len(job_keys), _FAMILIES_PER_CALL):
        some = job_keys[first : first + _FAMILIES_PER_CALL]
        for flat, *kinds in await broker.script(load("families"), some, [limit]):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            families.append(
                Family(fields, words.keys_from([key for kind in kinds for key in kind]))
            )
    return families
