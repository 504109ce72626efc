"""Reads parts of jobs for those who look at them: what is long is cut where it is stored.

Nothing here reads a whole state, or more bytes of a field than were asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.commands.jobs import LISTS
from sandboxq.broker.connect.script import load
from sandboxq.model.job import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

    # By field, how many bytes of its front; of its end when negative; 0: the length alone.
    Wanted = Mapping[str, int]

# Redis answers nobody else during a call.
IDS_PER_CALL = 100
# A long list is looked through from both ends.
_MOST_LOOKED_THROUGH = 10_000


class Part(NamedTuple):
    """A part of a value, and how many bytes the whole has."""

    raw: bytes
    size: int

    @property
    def is_cut(self) -> bool:
        """Whether there is more."""
        return self.size > len(self.raw)

    @property
    def text(self) -> str:
        """The part as text."""
        return self.raw.decode(errors="replace")


NO_PART = Part(b"", 0)
Row = dict[str, Part]


def _spec(wanted: Wanted) -> tuple[str | int, ...]:
    return (len(wanted), *(part for pair in wanted.items() for part in pair))


def _row(wanted: Wanted, parts: Sequence[Any]) -> Row:
    pairs = zip(wanted, zip(parts[::2], parts[1::2], strict=True), strict=False)
    return {name: Part(*pair) for name, pair in pairs}


async def peek(broker: Broker, keys: QueueKeys, ids: Sequence[str], wanted: Wanted) -> list[Row]:
    """Return these parts of each job, in order; an empty row where there is no such job."""
    batches = [ids[first : first + IDS_PER_CALL] for first in range(0, len(ids), IDS_PER_CALL)]
    calls = [((keys.base,), (*_spec(wanted), *batch)) for batch in batches]
    replies = await broker.scripts(load("peek"), calls)
    return [_row(wanted, parts) for reply in replies for parts in reply]


class Page(NamedTuple):
    """Some ids of a state, and how many jobs it has."""

    total: int
    ids: list[str]


async def ids_in(
    broker: Broker, keys: QueueKeys, state: JobState, *, start: int, count: int
) -> Page:
    """Return ids of a state: of finished jobs the newest first, of others those that come next."""
    names = LISTS.get(state, (state.value,))
    is_list = state in LISTS
    counter = "LLEN" if is_list else "ZCARD"
    totals = await broker.pipeline([(counter, keys[name]) for name in names])
    ids: list[str] = []
    for name, total in zip(names, totals, strict=True):
        left = count - len(ids)
        if left > 0 and start < total:
            ids += await _ids(broker, keys[name], state, start, min(start + left, total) - 1)
        start = max(0, start - total)
    return Page(sum(totals), ids)


async def _ids(broker: Broker, key: str, state: JobState, first: int, last: int) -> list[str]:
    match state:
        case JobState.WAITING:  # what comes next is at the tail
            found = (await broker.command("LRANGE", key, -1 - last, -1 - first))[::-1]
        case JobState.ACTIVE:
            found = await broker.command("LRANGE", key, first, last)
        case JobState.COMPLETED | JobState.FAILED:
            found = await broker.command("ZREVRANGE", key, first, last)
        case _:
            found = await broker.command("ZRANGE", key, first, last)
    return [job_id.decode(errors="replace") for job_id in found]


class Match(NamedTuple):
    """A job that was found."""

    id: str
    row: Row


class Looked(NamedTuple):
    """How many jobs were looked at, how many of them were too large for it, and what was found."""

    jobs: int
    too_large: int
    found: list[Match]


class Stretch(NamedTuple):
    """Some jobs of a list or set: the newest but ``start``, IDS_PER_CALL of them."""

    keys: QueueKeys
    name: str
    start: int


async def look_for(
    broker: Broker,
    stretches: Sequence[Stretch],
    conditions: Sequence[tuple[str, str]],
    wanted: Wanted,
    *,
    most_bytes: int,
) -> list[Looked]:
    """Look for jobs in each of these stretches, in one round trip.

    Each condition is a field and a text in lower case that it must contain. What contains it may
    still not be what is meant: the caller looks closer.
    """
    needles = [part for condition in conditions for part in condition]
    rest = (most_bytes, len(conditions), *needles, *_spec(wanted))
    calls = [((it.keys.base,), (it.name, it.start, IDS_PER_CALL, *rest)) for it in stretches]
    return [
        Looked(
            jobs,
            too_large,
            [Match(job_id.decode(errors="replace"), _row(wanted, row)) for job_id, row in matches],
        )
        for jobs, too_large, matches in await broker.scripts(load("look_for"), calls)
    ]


class Lines(NamedTuple):
    """Some lines of a log, and how many there are."""

    total: int
    lines: list[Part]


async def log_lines(
    broker: Broker, keys: QueueKeys, job_id: str, *, first: int, last: int, most_bytes: int
) -> Lines:
    """Return the lines ``first`` to ``last`` (inclusive, as of LRANGE), each cut."""
    args = (job_id, first, last, most_bytes)
    total, lines = await broker.script(load("log_lines"), (keys.base,), args)
    return Lines(total, [Part(*line) for line in lines])


class Kin(NamedTuple):
    """A job of a flow: parts of it, its children counted by kind, the keys of some of them."""

    row: Row
    counts: dict[str, int]
    children: list[str]


async def kin_of(
    broker: Broker, job_keys: Sequence[str], wanted: Wanted, *, most_children: int
) -> list[Kin]:
    """Return what a drawing of a flow shows of these jobs, of any queues."""
    calls = [((key,), (most_children, *_spec(wanted))) for key in job_keys]
    replies = await broker.scripts(load("kin"), calls)
    names = ("processed", "unprocessed", "ignored", "failed")
    return [
        Kin(
            _row(wanted, parts),
            dict(zip(names, counts, strict=True)),
            [key.decode(errors="replace") for key in children],
        )
        for parts, counts, children in replies
    ]


class Whereabouts(NamedTuple):
    """Where a job is: its state, its place among those that wait (0 comes next), its lock."""

    state: JobState
    place: int | None
    lock_seconds: float | None


async def whereabouts(broker: Broker, keys: QueueKeys, job_id: str) -> Whereabouts:
    """Return where a job is. In a long list that it is not found in, it is taken to wait."""
    sets = ("completed", "failed", "waiting-children", "delayed", "prioritized")
    most = ("MAXLEN", _MOST_LOOKED_THROUGH)
    lists = [("wait", -1), ("paused", -1), ("active", 1), ("wait", 1), ("paused", 1)]
    replies = await broker.pipeline(
        [
            *(("ZSCORE", keys[name], job_id) for name in sets),
            *(("LPOS", keys[name], job_id, "RANK", rank, *most) for name, rank in lists),
            ("ZRANK", keys["prioritized"], job_id),
            ("LLEN", keys["wait"]),
            ("LLEN", keys["paused"]),
            ("EXISTS", keys[job_id]),
            ("PTTL", keys[f"{job_id}:lock"]),
        ]
    )
    scores, places, rest = replies[:5], replies[5:10], replies[10:]
    rank, waiting, paused, exists, lock_ms = rest
    for name, score in zip(sets, scores, strict=True):
        if score is not None:
            place = rank if name == "prioritized" else None
            return Whereabouts(JobState(name), place, None)
    if places[2] is not None:
        return Whereabouts(JobState.ACTIVE, None, lock_ms / 1000 if lock_ms >= 0 else None)
    for at, length in ((0, waiting), (1, paused), (3, waiting), (4, paused)):
        if places[at] is not None:
            return Whereabouts(JobState.WAITING, length - 1 - places[at], None)
    is_far = bool(exists) and max(waiting, paused) > 2 * _MOST_LOOKED_THROUGH
    return Whereabouts(JobState.WAITING if is_far else JobState.UNKNOWN, None, None)
