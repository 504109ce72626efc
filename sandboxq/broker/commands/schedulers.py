"""Job schedulers as Redis has them (protocol.md 2.4, 3.22)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.codec import json_text, json_value, options_from_wire
from sandboxq.broker.commands.batches import BATCH, run_rows
from sandboxq.broker.connect.script import load
from sandboxq.errors import OptionsUnreadable, SchedulerSlotTaken
from sandboxq.model.job import JobOptions
from sandboxq.model.validation import whole_from_wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

# The scripts' code when another job has the time of the next one.
_SLOT_TAKEN = -10


# ── what a worker does ──────────────────────────────────────────────────────


class Iteration(NamedTuple):
    """The job that follows a claimed one of the same scheduler.

    ``next_ms`` is None for a scheduler that runs every so often: the script counts on from its last
    time. ``every_ms`` is that of the claimed job, for records that do not say it. ``opts`` are
    those of the new job without ``jobId`` and ``delay``, and not empty.
    """

    claimed_id: bytes
    scheduler_id: bytes
    next_ms: int | None
    every_ms: int | None
    opts: Mapping[str, Any]
    priority: int
    lifo: bool


async def advance(
    broker: Broker, keys: QueueKeys, iterations: Sequence[Iteration], *, now_ms: int
) -> list[bool]:
    """Queue the next job of each scheduler, unless it was done before.

    False for an iteration whose time another job has: it needs a later time.
    """
    rows = [
        (
            each.claimed_id,
            each.scheduler_id,
            "" if each.next_ms is None else each.next_ms,
            each.every_ms or "",
            _open_text(each.opts),
            each.priority,
            int(each.lifo),
            _deduplication_id(each.opts),
        )
        for each in iterations
    ]
    codes = await run_rows(broker, load("advance_scheduler"), keys, (now_ms,), rows)
    return [code != _SLOT_TAKEN for code in codes]


def _deduplication_id(opts: Mapping[str, Any]) -> str:
    """Return what Node carries along in a job's hash too; a scheduler's jobs are no duplicates."""
    rule = opts.get("de")
    return str(rule.get("id") or "") if isinstance(rule, dict) else ""


def _open_text(opts: Mapping[str, Any]) -> str:
    """Return a JSON object without its closing brace: the script adds members."""
    return json_text(dict(opts), "options")[:-1]


# ── what producers do ───────────────────────────────────────────────────────


class NewScheduler(NamedTuple):
    """A scheduler to be written, and its first job.

    ``data`` is JSON, and so is ``template_opts``, empty for none. ``record`` has the fields of the
    stored hash that say when; ``opts`` are those of the first job, see Iteration. ``next_ms`` is
    None for a scheduler that runs every so often.
    """

    id: str
    name: str
    data: str
    template_opts: str
    record: Mapping[str, str | int]
    next_ms: int | None
    opts: Mapping[str, Any]
    priority: int
    lifo: bool


async def upsert(
    broker: Broker, keys: QueueKeys, new: NewScheduler, *, now_ms: int
) -> tuple[str, int]:
    """Write the scheduler and queue its next job; return the job's id and its delay in ms.

    Raises: SchedulerSlotTaken, with nothing written.
    """
    args: list[str | int] = [
        now_ms,
        new.id,
        "" if new.next_ms is None else new.next_ms,
        new.name,
        new.data,
        new.template_opts,
        _open_text(new.opts),
        new.priority,
        int(new.lifo),
    ]
    for name, value in new.record.items():
        args += [name, value]
    reply = await broker.script(load("upsert_scheduler"), (keys.base,), args)
    if isinstance(reply, int):
        message = f"scheduler {new.id}: jobs of an earlier one have the next times (code {reply})"
        raise SchedulerSlotTaken(message)
    job_id, delay_ms = reply
    return job_id.decode(), delay_ms


async def remove(broker: Broker, keys: QueueKeys, scheduler_id: str) -> bool:
    """Remove a scheduler and its delayed job; False means that there is none."""
    return bool(await broker.script(load("remove_scheduler"), (keys.base,), (scheduler_id,)))


# ── looking ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """A scheduler as it stood in Redis when it was read. Durations are seconds.

    It runs by ``cron``, in zone ``tz``, or ``every`` so many seconds. ``next_ms`` is when its next
    job is due, or its last one when a limit or end date has stopped it. ``iterations`` counts the
    jobs that it made. ``data`` and ``options`` are what it gives each of them. Schedules of BullMQ
    before its job schedulers have no ``iterations``.
    """

    id: str
    name: str
    next_ms: int
    iterations: int = 0
    cron: str | None = None
    every: float | None = None
    offset: float | None = None
    tz: str | None = None
    limit: int | None = None
    start_date_ms: int | None = None
    end_date_ms: int | None = None
    data: Any = None
    options: JobOptions | None = None


async def scheduler_of(broker: Broker, keys: QueueKeys, scheduler_id: str) -> Scheduler | None:
    """Return one scheduler, None when there is none."""
    score, record = await broker.pipeline(
        [
            ("ZSCORE", keys["repeat"], scheduler_id),
            ("HGETALL", keys[f"repeat:{scheduler_id}"]),
        ]
    )
    return None if score is None else _scheduler(scheduler_id, score, record)


async def schedulers_in(
    broker: Broker, keys: QueueKeys, *, start: int, end: int, ascending: bool
) -> list[Scheduler]:
    """Return the schedulers ``start`` to ``end`` (inclusive) by when they run next."""
    command = "ZRANGE" if ascending else "ZREVRANGE"
    scored = await broker.command(command, keys["repeat"], start, end, "WITHSCORES")
    ids = [member.decode(errors="replace") for member in scored[::2]]
    # A record of another type is none; HGETALL would fail for all.
    batches = [ids[first : first + BATCH] for first in range(0, len(ids), BATCH)]
    calls = [((keys["repeat:"],), batch) for batch in batches]
    records = chain.from_iterable(await broker.scripts(load("hashes"), calls))
    found = map(_scheduler, ids, scored[1::2], records)
    return [scheduler for scheduler in found if scheduler is not None]


async def count_schedulers(broker: Broker, keys: QueueKeys) -> int:
    """Return how many schedulers there are."""
    return int(await broker.command("ZCARD", keys["repeat"]))


def _scheduler(scheduler_id: str, score: bytes, record: Any) -> Scheduler | None:
    """Return what a record says; unreadable members count as absent, no record is no scheduler."""
    pairs = (
        record if isinstance(record, dict) else dict(zip(record[::2], record[1::2], strict=True))
    )
    fields = {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in pairs.items()
    }
    if "name" not in fields:
        return None
    every, offset = _whole(fields.get("every")), _whole(fields.get("offset"))
    return Scheduler(
        id=scheduler_id,
        name=fields["name"],
        next_ms=whole_from_wire(score) or 0,
        iterations=_whole(fields.get("ic")) or 0,
        cron=fields.get("pattern"),
        every=None if every is None else every / 1000,
        offset=offset / 1000 if offset and every else None,
        tz=fields.get("tz"),
        limit=_whole(fields.get("limit")),
        start_date_ms=_whole(fields.get("startDate")),
        end_date_ms=_whole(fields.get("endDate")),
        data=_data(pairs.get(b"data")),
        options=_options(pairs.get(b"opts")),
    )


def _whole(text: str | None) -> int | None:
    return whole_from_wire(text)


def _data(text: bytes | None) -> Any:
    if text is None:
        return {}
    try:
        return json_value(text)
    except ValueError:
        return text.decode(errors="replace")


def _options(text: bytes | None) -> JobOptions:
    try:
        return JobOptions() if text is None else options_from_wire(text)
    except OptionsUnreadable:
        return JobOptions()
