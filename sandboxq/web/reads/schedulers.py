"""Schedulers: what they make, when, in a sentence, and the next times."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from sandboxq.broker.codec import json_text
from sandboxq.broker.commands.peek import Part
from sandboxq.broker.commands.queues import sizes_of
from sandboxq.broker.commands.schedulers import schedulers_in
from sandboxq.errors import QueueError, UsageError
from sandboxq.queue.schedulers import Repeat
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read
from sandboxq.web.reads.rows import Value, stored_value
from sandboxq.web.sentences import sentence_of

if TYPE_CHECKING:
    from sandboxq.broker.commands.schedulers import Scheduler
    from sandboxq.web.redact import Redaction

# All that come before the first one are read too.
MOST_ROWS, MOST_START = 200, 2000
_NEXT = 5
_MOST_DATA = 16 << 10


class SchedulerRow(TypedDict):
    """One scheduler. Seconds; times in ms since 1970.

    ``next_ms``: when its next job is due; ``upcoming``: the times after that, as far as they are
    known here. ``iterations``: jobs made so far.
    """

    queue: str
    id: str
    name: str
    sentence: str
    cron: str | None
    tz: str | None
    every: float | None
    offset: float | None
    limit: int | None
    iterations: int
    start_date_ms: int | None
    end_date_ms: int | None
    next_ms: int
    upcoming: list[int]
    data: Value


class SchedulersAnswer(TypedDict):
    """Schedulers by when they come next, of all queues or one. ``total``: how many there are."""

    queue: str | None
    now_ms: int
    total: int
    start: int
    next: int | None
    schedulers: list[SchedulerRow]


@read("/schedulers")
async def read_schedulers(
    dashboard: Dashboard, *, queue: str = "", start: int = 0, count: int = 100
) -> SchedulersAnswer:
    """Schedulers: the pattern in a sentence, the next times, what they add."""
    if not (0 <= start <= MOST_START and 1 <= count <= MOST_ROWS):
        message = f"start must be 0 to {MOST_START}, and count 1 to {MOST_ROWS}"
        raise UsageError(message)
    names = [queue] if queue else (await dashboard.queues()).names
    broker, keys = await dashboard.broker(), [dashboard.keys(name) for name in names]
    totals = [size for (size,) in await sizes_of(broker, keys, ["repeat"])]
    rows: list[SchedulerRow] = []
    end = start + count
    for each, total in zip(keys, totals, strict=True):
        if total:
            last = min(total, end) - 1
            found = await schedulers_in(broker, each, start=0, end=last, ascending=True)
            rows += [scheduler_row(each.queue, it, dashboard.redaction) for it in found]
    rows.sort(key=lambda it: (it["next_ms"], it["queue"], it["id"]))
    return {
        "queue": queue or None,
        "now_ms": await broker.now_ms(),
        "total": sum(totals),
        "start": start,
        "next": end if end <= MOST_START and len(rows) > end else None,
        "schedulers": rows[start:end],
    }


def scheduler_row(queue: str, scheduler: Scheduler, redaction: Redaction) -> SchedulerRow:
    """Return what is shown of a scheduler."""
    raw = json_text(scheduler.data, "data").encode()
    return {
        "queue": queue,
        "id": scheduler.id,
        "name": scheduler.name,
        "sentence": sentence_of(scheduler.cron, scheduler.every, scheduler.tz),
        "cron": scheduler.cron,
        "tz": scheduler.tz,
        "every": scheduler.every,
        "offset": scheduler.offset,
        "limit": scheduler.limit,
        "iterations": scheduler.iterations,
        "start_date_ms": scheduler.start_date_ms,
        "end_date_ms": scheduler.end_date_ms,
        "next_ms": scheduler.next_ms,
        "upcoming": _upcoming(scheduler),
        "data": stored_value(Part(raw[:_MOST_DATA], len(raw)), redaction),
    }


def _upcoming(scheduler: Scheduler) -> list[int]:
    """Return the times after the next one; none for a pattern that is not known here."""
    left = _NEXT
    if scheduler.limit is not None:
        left = min(left, max(0, scheduler.limit - scheduler.iterations))
    if scheduler.every:
        times = [
            scheduler.next_ms + round(scheduler.every * 1000) * at for at in range(1, left + 1)
        ]
    else:
        times = _times_of_cron(scheduler, left)
    end_ms = scheduler.end_date_ms
    return [each for each in times if end_ms is None or each <= end_ms]


def _times_of_cron(scheduler: Scheduler, count: int) -> list[int]:
    times: list[int] = []
    after: int | None = scheduler.next_ms
    try:
        repeat = Repeat(cron=scheduler.cron, tz=scheduler.tz)
        while after is not None and len(times) < count:
            after = repeat.next_ms(after, seed=scheduler.id)
            times += [] if after is None else [after]
    except (UsageError, QueueError, ValueError, OverflowError):
        return []
    return times
