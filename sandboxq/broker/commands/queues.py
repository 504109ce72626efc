"""All queues of a prefix: their names, and what an overview shows of each."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.commands.settings import KEYS_PER_SCAN, literal_pattern
from sandboxq.broker.connect.script import load
from sandboxq.broker.keys import checked_queue_name
from sandboxq.errors import BrokerUnavailable, QueueError, UsageError
from sandboxq.model.job import JobState
from sandboxq.model.validation import count_from_wire, whole_from_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

# In the order of overview.lua.
_STATES = (
    JobState.WAITING,
    JobState.ACTIVE,
    JobState.PRIORITIZED,
    JobState.DELAYED,
    JobState.WAITING_CHILDREN,
    JobState.COMPLETED,
    JobState.FAILED,
)


async def queue_names(broker: Broker, *, prefix: str) -> list[str]:
    """Return the names of all queues under the prefix, sorted; walks over the whole database.

    Those with a worker alone too: after FLUSHALL workers run on, and no key is left of their queue.
    """
    names = await names_with_workers(broker, prefix)
    async for page, _ in pages_of_names(broker, prefix):
        names |= page
    return sorted(names)


async def pages_of_names(broker: Broker, prefix: str) -> AsyncIterator[tuple[set[str], int]]:
    """Walk over the database; yield the names of each step, and how many keys it looked at."""
    pattern = literal_pattern(prefix) + ":*:meta"
    async for page in broker.scan("MATCH", pattern, "COUNT", KEYS_PER_SCAN):
        names = [key.decode(errors="replace")[len(prefix) + 1 : -len(":meta")] for key in page]
        yield set(filter(_is_usable, names)), KEYS_PER_SCAN


async def names_with_workers(broker: Broker, prefix: str) -> set[str]:
    """Return the queues that a worker is connected for, as far as this user may ask."""
    names: set[str] = set()
    try:
        replies = await broker.command_to_each("CLIENT", "LIST")
    except BrokerUnavailable:
        raise
    except QueueError:
        return names
    for reply in replies:
        for line in reply.decode(errors="replace").splitlines():
            client = line.partition(" name=")[2].partition(" ")[0]
            encoded, _, kind = client.removeprefix(f"{prefix}:").partition(":")
            if client.startswith(f"{prefix}:") and kind != "qe":  # which is a listener
                names.add(_decoded(encoded))
    return set(filter(_is_usable, names))


def _decoded(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def _is_usable(name: str) -> bool:
    """Tell whether it is a valid queue name; other programs may have written the key."""
    try:
        return bool(checked_queue_name(name))
    except UsageError:
        return False


async def sizes_of(
    broker: Broker, queues: Sequence[QueueKeys], names: Sequence[str]
) -> list[list[int]]:
    """Return for each queue the sizes of its lists and sets of these names, in one round trip."""
    return await broker.scripts(load("sizes"), [((keys.base,), names) for keys in queues])


class FinishedCounts(NamedTuple):
    """How many jobs of a kind finished: in all, and in each of the last minutes, newest first.

    The minute that runs is the first. Without metrics of a worker all of it is 0.
    """

    total: int
    minutes: list[int]


class QueueLook(NamedTuple):
    """What an overview shows of a queue; ``due_ms``: since when the oldest waiting job waits."""

    exists: bool
    is_paused: bool
    version: str
    concurrency: int | None
    rate_max: int | None
    rate_ms: int | None
    counts: dict[str, int]
    completed: FinishedCounts
    failed: FinishedCounts
    due_ms: int | None


async def looks_at(
    broker: Broker, queues: Sequence[QueueKeys], *, minutes: int, now_ms: int
) -> list[QueueLook | QueueError]:
    """Look at many queues in one round trip; an error stands in the place of what failed.

    Raises: BrokerUnavailable.
    """
    calls = [((keys.base,), (minutes,)) for keys in queues]
    replies = await broker.try_scripts(load("overview"), calls)
    return [
        reply if isinstance(reply, QueueError) else _look(*reply, minutes=minutes, now_ms=now_ms)
        for reply in replies
    ]


def _look(
    exists: int,
    settings: list[bytes],
    counts: list[int],
    completed: list[Any],
    failed: list[Any],
    due: bytes,
    *,
    minutes: int,
    now_ms: int,
) -> QueueLook:
    paused, version, *limits = settings
    most, rate_max, rate_ms = map(whole_from_wire, limits)
    return QueueLook(
        bool(exists),
        bool(paused),
        version.decode(errors="replace"),
        most,
        rate_max,
        rate_ms,
        {state.value: count for state, count in zip(_STATES, counts, strict=True)},
        _finished(*completed, most=minutes, now_ms=now_ms),
        _finished(*failed, most=minutes, now_ms=now_ms),
        whole_from_wire(due),
    )


def _finished(
    total: bytes, previous: bytes, previous_ms: bytes, data: list[bytes], *, most: int, now_ms: int
) -> FinishedCounts:
    """Return the minutes up to now: what is stored ends with the minute of the last job.

    That minute, at ``previous_ms``, is not among ``data`` until a job of a later one ends.
    """
    count, last = count_from_wire(total), count_from_wire(previous_ms)
    if not last:
        return FinishedCounts(count, [0] * most)
    # `previous_ms` is when the newest stored minute was written: what ended since is in its minute.
    running = max(0, count - count_from_wire(previous))
    silent = max(0, now_ms // 60_000 - last // 60_000)
    minutes = [0] * min(silent, most) + [running] + list(map(count_from_wire, data))
    return FinishedCounts(count, (minutes + [0] * most)[:most])
