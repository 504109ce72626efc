"""Reads jobs: their hashes, logs, counts, states and results (protocol.md 3.24).

Where jobs are and how they ended is read with them; their hashes: 2.1.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.codec import json_value, options_from_wire
from sandboxq.broker.connect.script import load
from sandboxq.broker.keys import keys_from_job_key
from sandboxq.errors import OptionsUnreadable, UsageError
from sandboxq.model.job import (
    JobOptions,
    JobState,
    StoredJob,
    Usage,
    usage_from_measure,
)
from sandboxq.model.validation import whole_from_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

# By state, the lists that hold its ids; `paused` is where v5 clients keep what waits (9.2).
LISTS: dict[JobState, tuple[str, ...]] = {
    JobState.WAITING: ("wait", "paused"),
    JobState.ACTIVE: ("active",),
}
STATES = tuple(state for state in JobState if state is not JobState.UNKNOWN)
# Enough to make the round trip cheap, few enough to hold at once when jobs are large.
_HASHES_PER_TRIP = 200
# Ids without a job that are passed over to fill up a page.
_MOST_LOOKED_AT = 10_000
# Redis answers nobody else during a script call.
_IDS_PER_CALL = 100


def job_from_hash(queue_name: str, job_id: str, fields: Mapping[bytes, bytes]) -> StoredJob:
    """Return the job that a hash describes.

    Made for looking at jobs, so it never refuses one: JSON that cannot be read is given as its raw
    text, unreadable options as the defaults, a missing field as its default.
    """
    known: dict[str, Any] = {}
    extra: dict[str, str] = {}
    for name, value in fields.items():
        reader = _FIELDS.get(name)
        if reader is None:
            extra[name.decode(errors="replace")] = _string(value)
        else:
            known[reader[0]] = reader[1](value)
    if b"attemptsMade" in fields:
        # What BullMQ before 5 counted; what was counted since comes on top.
        known["attempts_made"] = _whole(fields[b"attemptsMade"]) + _whole(fields.get(b"atm", b""))
    known.setdefault("name", "")
    known.setdefault("data", {})
    known.setdefault("opts", JobOptions())
    return StoredJob(id=job_id, queue_name=queue_name, extra=extra, **known)


def _string(value: bytes) -> str:
    return value.decode(errors="replace")


def _name(value: bytes) -> str | None:
    return _string(value) or None


def _json(value: bytes) -> Any:
    try:
        return json_value(value)
    except ValueError:
        return _string(value)


def _data(value: bytes) -> Any:
    return _json(value) if value else {}


def _json_object(value: bytes) -> dict[str, Any] | None:
    parsed = _json(value)
    return parsed if isinstance(parsed, dict) else None


def traces_from_wire(value: bytes) -> tuple[str, ...]:
    """Return the traces of a job's ``stacktrace``, the oldest first."""
    parsed = _json(value)
    return tuple(str(trace) for trace in parsed) if isinstance(parsed, list) else (_string(value),)


def _history(value: bytes) -> tuple[str, ...]:
    return tuple(_string(value).split(", "))


def _usage(value: bytes) -> Usage | None:
    try:
        wall, user, system, peak = map(int, value.split())
    except ValueError:
        return None
    return usage_from_measure((wall, user, system, peak))


def _whole(value: bytes) -> int:
    return whole_from_wire(value) or 0


def _options(value: bytes) -> JobOptions:
    try:
        return options_from_wire(value)
    except OptionsUnreadable:
        return JobOptions()


# By hash field: the field of StoredJob, and how to read it.
_FIELDS: dict[bytes, tuple[str, Callable[[bytes], Any]]] = {
    b"name": ("name", _string),
    b"data": ("data", _data),
    b"opts": ("opts", _options),
    b"timestamp": ("timestamp_ms", _whole),
    b"delay": ("delay_ms", _whole),
    b"priority": ("priority", _whole),
    b"atm": ("attempts_made", _whole),
    b"attemptsMade": ("attempts_made", _whole),
    b"ats": ("attempts_started", _whole),
    b"stc": ("stalled_counter", _whole),
    b"processedOn": ("processed_on_ms", _whole),
    b"finishedOn": ("finished_on_ms", _whole),
    b"pb": ("processed_by", _string),
    b"progress": ("progress", _json),
    b"returnvalue": ("returnvalue", _json),
    b"failedReason": ("failed_reason", _string),
    b"stacktrace": ("stacktrace", traces_from_wire),
    b"parentKey": ("parent_key", _string),
    b"parent": ("parent", _json_object),
    b"defa": ("deferred_failure", _string),
    b"deid": ("deduplication_id", _name),
    b"rjk": ("scheduler_id", _name),
    b"sq:cause": ("cause", _string),
    b"sq:binary": ("data_reference", _string),
    b"sq:result": ("value_reference", _string),
    b"sq:crashes": ("crashes", _whole),
    b"sq:history": ("crash_history", _history),
    b"sq:usage": ("usage", _usage),
}


async def counts_of(broker: Broker, keys: QueueKeys) -> dict[str, int]:
    """Return how many jobs are in each state."""
    sources = [(state, name) for state in STATES for name in LISTS.get(state, (state.value,))]
    commands = [("LLEN" if state in LISTS else "ZCARD", keys[name]) for state, name in sources]
    counts = {state.value: 0 for state in STATES}
    for (state, _), count in zip(sources, await broker.pipeline(commands), strict=True):
        counts[state.value] += count
    return counts


async def counts_per_priority(
    broker: Broker, keys: QueueKeys, priorities: Sequence[int]
) -> dict[int, int]:
    """Return how many jobs wait with each of these priorities (protocol.md 1.2)."""
    commands: list[tuple[str | int, ...]] = [("LLEN", keys[name]) for name in ("wait", "paused")]
    for priority in priorities:
        lowest, next_lowest = priority * 2**32, (priority + 1) * 2**32
        commands.append(("ZCOUNT", keys["prioritized"], lowest, f"({next_lowest}"))
    waiting, paused, *counts = await broker.pipeline(commands)
    pairs = zip(priorities, counts, strict=True)
    return {priority: count if priority else waiting + paused for priority, count in pairs}


async def delayed_count(broker: Broker, keys: QueueKeys, until_ms: int | None) -> int:
    """Return how many jobs are delayed, or how many of them are due until then."""
    # The lower bits of a score tell apart what is due in the same millisecond.
    latest = "+inf" if until_ms is None else (until_ms + 1) * 4096 - 1
    return int(await broker.command("ZCOUNT", keys["delayed"], "-inf", latest))


async def job_of(broker: Broker, keys: QueueKeys, job_id: str) -> StoredJob | None:
    """Return one job, None when there is no such job."""
    jobs = await _jobs(broker, keys, [job_id])
    return jobs[0] if jobs else None


async def jobs_in(
    broker: Broker,
    keys: QueueKeys,
    states: Iterable[JobState],
    *,
    start: int,
    end: int,
    ascending: bool,
) -> list[StoredJob]:
    """Return the jobs ``start`` to ``end`` (inclusive; -1 is the last) of each state, in its order.

    Ascending is oldest first; by score where a state has scores. Of a range that is counted from
    the first on, ids without a job are filled up by those behind it, as Node does.
    """
    sources = [
        _Source(keys[name], state in LISTS, ascending)
        for state in states
        for name in LISTS.get(state, (state.value,))
    ]
    pages = await broker.pipeline([source.command(start, end) for source in sources])
    found: dict[str, StoredJob] = {}
    for source, page in zip(sources, pages, strict=True):
        jobs = await _jobs(broker, keys, source.ids(page))
        if len(jobs) < len(page) and start >= 0 and end >= 0:
            jobs += await _behind(broker, keys, source, start=end + 1, wanted=len(page) - len(jobs))
        found |= {job.id: job for job in jobs if job.id not in found}
    return list(found.values())


class _Source(NamedTuple):
    """A list or sorted set of ids, read from one end or the other."""

    key: str
    is_list: bool
    is_ascending: bool

    def command(self, start: int, end: int) -> tuple[str, str, int, int]:
        """Return the command that reads a range; the oldest is at a list's tail."""
        if not self.is_list:
            return ("ZRANGE" if self.is_ascending else "ZREVRANGE", self.key, start, end)
        if self.is_ascending:
            return ("LRANGE", self.key, -1 - end, -1 - start)
        return ("LRANGE", self.key, start, end)

    def ids(self, page: Sequence[bytes]) -> list[str]:
        """Return the ids of a reply, in order."""
        in_order = reversed(page) if self.is_list and self.is_ascending else page
        return [job_id.decode(errors="replace") for job_id in in_order]


async def _behind(
    broker: Broker, keys: QueueKeys, source: _Source, *, start: int, wanted: int
) -> list[StoredJob]:
    """Return the first jobs from an index on, without ids that have no job."""
    jobs: list[StoredJob] = []
    for first in range(start, start + _MOST_LOOKED_AT, _HASHES_PER_TRIP):
        page = await broker.command(*source.command(first, first + _HASHES_PER_TRIP - 1))
        jobs += await _jobs(broker, keys, source.ids(page))
        if len(jobs) >= wanted or not page:
            break
    return jobs[:wanted]


async def _jobs(broker: Broker, keys: QueueKeys, ids: Sequence[str]) -> list[StoredJob]:
    """Return the jobs of these ids; an id without a job is left out."""
    jobs: list[StoredJob] = []
    for first in range(0, len(ids), _HASHES_PER_TRIP):
        trip = ids[first : first + _HASHES_PER_TRIP]
        hashes = await broker.script(load("hashes"), [keys.base], trip)
        for job_id, reply in zip(trip, hashes, strict=True):
            fields = _pairs(reply)
            if b"name" in fields:
                jobs.append(job_from_hash(keys.queue, job_id, fields))
    return jobs


async def jobs_of_keys(
    broker: Broker, job_keys: Sequence[str], *, near: str
) -> dict[str, StoredJob]:
    """Return the jobs with these keys, of any queues; one that is gone is left out."""
    jobs: dict[str, StoredJob] = {}
    for first in range(0, len(job_keys), _HASHES_PER_TRIP):
        trip = job_keys[first : first + _HASHES_PER_TRIP]
        # Of each its hash alone, or none, where HGETALL would fail for all.
        replies = await broker.scripts(load("families"), [((key,), (0,)) for key in trip])
        for key, ((flat, *_),) in zip(trip, replies, strict=True):
            fields = _pairs(flat)
            if b"name" in fields:
                with contextlib.suppress(UsageError):  # no key of a queue that can be one
                    keys, job_id = keys_from_job_key(key, near)
                    jobs[key] = job_from_hash(keys.queue, job_id, fields)
    return jobs


def _pairs(reply: Any) -> dict[bytes, bytes]:
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


async def logs_of(
    broker: Broker, keys: QueueKeys, job_id: str, *, start: int, end: int
) -> list[str]:
    """Return the lines ``start`` to ``end`` (inclusive; -1 is the last) of a job's log."""
    lines = await broker.command("LRANGE", keys[f"{job_id}:logs"], start, end)
    return [line.decode(errors="replace") for line in lines]


class Ending(NamedTuple):
    """How a job ended: ``state`` is completed, failed or None; ``exists``: it is in Redis.

    ``text`` is the return value as JSON or the failed reason; ``cause`` names the error's class;
    ``binary`` is where the value's arrays and bytes are, see binary.py. Of a failed job also its
    traces and how many attempts it has had.
    """

    exists: bool
    state: JobState | None = None
    text: bytes = b""
    cause: str = ""
    binary: bytes = b""
    stacktrace: tuple[str, ...] = ()
    attempts_made: int = 0


async def state_of(broker: Broker, keys: QueueKeys, job_id: str) -> JobState:
    """Return the state that holds the job, UNKNOWN when there is none."""
    states = await broker.script(load("states"), [keys.base], [job_id])
    return JobState(states[0].decode())


async def endings_of(broker: Broker, keys: QueueKeys, job_ids: Sequence[str]) -> list[Ending]:
    """Return the ending of each job, in order."""
    endings: list[Ending] = []
    for first in range(0, len(job_ids), _IDS_PER_CALL):
        ids = job_ids[first : first + _IDS_PER_CALL]
        replies = await broker.script(load("finished"), [keys.base], ids)
        endings += [_ending(*reply) for reply in replies]
    return endings


def _ending(
    code: int, text: bytes = b"", cause: bytes = b"", binary: bytes = b"", *failure: bytes
) -> Ending:
    states = {1: JobState.COMPLETED, 2: JobState.FAILED}
    name = cause.decode(errors="replace")
    if not failure:
        return Ending(code != -1, states.get(code), text, name, binary)
    traces, *made = failure
    return Ending(
        exists=True,
        state=JobState.FAILED,
        text=text,
        cause=name,
        stacktrace=traces_from_wire(traces) if traces else (),
        attempts_made=sum(whole_from_wire(number) or 0 for number in made),
    )
