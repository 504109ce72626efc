"""How long jobs wait and run, how many end, and when the queue would be empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from sandboxq.broker.commands.peek import ids_in, peek
from sandboxq.broker.commands.queues import looks_at
from sandboxq.errors import QueueError
from sandboxq.model.job import JobState
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read
from sandboxq.web.reads.overview import MINUTES
from sandboxq.web.reads.rows import number, seconds_between

if TYPE_CHECKING:
    from sandboxq.broker.commands.peek import Row
    from sandboxq.broker.commands.queues import QueueLook
    from sandboxq.broker.keys import QueueKeys

# So many completed jobs of a queue are looked at, the newest; of many queues fewer of each.
SAMPLE = 500
_OF_ALL_QUEUES = 5000
_FIELDS = dict.fromkeys(("timestamp", "delay", "processedOn", "finishedOn", "ats", "stc"), 24)
# Full minutes from which the pace is taken.
_PACE_MINUTES = 5


class Percentiles(TypedDict):
    """Seconds."""

    p50: float
    p95: float
    p99: float
    most: float


class QueueLatency(TypedDict):
    """One queue. Seconds; minutes are the newest first, the first of them runs.

    ``wait`` and ``run`` are of the newest ``sample`` completed jobs, None: there are none. ``pace``
    is jobs that end per second, ``slots`` how many run at once at that pace, ``empty_in`` seconds
    until nothing waits if nothing is added; None: never, at this pace.
    """

    queue: str
    sample: int
    wait: Percentiles | None
    run: Percentiles | None
    oldest: float | None
    waiting: int
    active: int
    pace: float
    slots: float | None
    empty_in: float | None
    completed_minutes: list[int]
    failed_minutes: list[int]


class LatencyAnswer(TypedDict):
    """``is_complete``: all queues are known."""

    now_ms: int
    is_complete: bool
    queues: list[QueueLatency]


@read("/latency")
async def read_latency(dashboard: Dashboard, *, queue: str = "") -> LatencyAnswer:
    """How long jobs waited and ran, the oldest that waits, the pace, when it would be empty."""
    found = await dashboard.queues()
    names = [queue] if queue else found.names
    broker, keys = await dashboard.broker(), [dashboard.keys(name) for name in names]
    now_ms = await broker.now_ms()
    looks = await looks_at(broker, keys, minutes=MINUTES, now_ms=now_ms)
    count = max(1, min(SAMPLE, _OF_ALL_QUEUES // max(1, len(keys))))
    rows = [
        await _latency(dashboard, each, look, count=count, now_ms=now_ms)
        for each, look in zip(keys, looks, strict=True)
        if not isinstance(look, QueueError) and look.exists
    ]
    return {"now_ms": now_ms, "is_complete": found.is_complete, "queues": rows}


async def _latency(
    dashboard: Dashboard, keys: QueueKeys, look: QueueLook, *, count: int, now_ms: int
) -> QueueLatency:
    sample: list[Row] = []
    if look.counts["completed"]:
        broker = await dashboard.broker()
        page = await ids_in(broker, keys, JobState.COMPLETED, start=0, count=count)
        sample = [row for row in await peek(broker, keys, page.ids, _FIELDS) if row]
    waits = [seconds for row in sample if (seconds := _wait(row)) is not None]
    runs = [
        seconds
        for row in sample
        if (seconds := seconds_between(number(row, "processedOn"), number(row, "finishedOn")))
        is not None
    ]
    waiting = look.counts["waiting"] + look.counts["prioritized"]
    pace = _pace(look)
    return {
        "queue": keys.queue,
        "sample": len(sample),
        "wait": percentiles(waits),
        "run": percentiles(runs),
        "oldest": None if look.due_ms is None else max(0.0, (now_ms - look.due_ms) / 1000),
        "waiting": waiting,
        "active": look.counts["active"],
        "pace": pace,
        "slots": pace * sum(runs) / len(runs) if runs else None,
        "empty_in": _empty_in(waiting, pace),
        "completed_minutes": look.completed.minutes,
        "failed_minutes": look.failed.minutes,
    }


def _wait(row: Row) -> float | None:
    """Return how long a job waited; of one that was tried again that is not known."""
    if (number(row, "ats") or 0) > 1 or number(row, "stc"):
        return None
    timestamp = number(row, "timestamp")
    due = None if timestamp is None else timestamp + (number(row, "delay") or 0)
    return seconds_between(due, number(row, "processedOn"))


def _pace(look: QueueLook) -> float:
    """Return the jobs that ended per second, of the last full minutes."""
    ended = [sum(pair) for pair in zip(look.completed.minutes, look.failed.minutes, strict=True)]
    return sum(ended[1 : _PACE_MINUTES + 1]) / (_PACE_MINUTES * 60)


def _empty_in(waiting: int, pace: float) -> float | None:
    if not waiting:
        return 0.0
    return waiting / pace if pace else None


def percentiles(values: list[float]) -> Percentiles | None:
    """Return some percentiles (nearest rank), None of no values."""
    if not values:
        return None
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "most": ordered[-1]}
