"""One queue: its settings, counts and limits; and its jobs by state, a page at a time."""

from __future__ import annotations

from typing import TypedDict

from sandboxq.broker.commands.peek import ids_in
from sandboxq.broker.commands.queues import looks_at
from sandboxq.broker.commands.settings import read_usage, window_ttl_ms
from sandboxq.broker.commands.workers import worker_counts
from sandboxq.errors import BrokerUnavailable, QueueError, UsageError
from sandboxq.model.job import JobState
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read
from sandboxq.web.reads.overview import MINUTES, QueueRow, queue_row
from sandboxq.web.reads.rows import MOST_ROWS, JobRow, State, read_rows
from sandboxq.web.reads.search import find_jobs


class Limits(TypedDict):
    """What holds for all workers of a queue together. ``rate_closed``: seconds until it opens."""

    concurrency: int | None
    rate_max: int | None
    rate_seconds: float | None
    rate_closed: float
    is_maxed: bool


class UsageRow(TypedDict):
    """What sandboxq's workers have used for a queue's jobs. Seconds and bytes."""

    attempts: int
    crashes: int
    wall: float
    cpu_user: float
    cpu_system: float
    peak_rss: int


class QueueAnswer(TypedDict):
    """One queue. ``runs_elsewhere``: jobs end, but no worker of sandboxq has counted them."""

    queue: QueueRow
    limits: Limits
    usage: UsageRow
    runs_elsewhere: bool
    is_read_only: bool


class JobsPage(TypedDict):
    """Some jobs of a state. ``total``: of the state; of a search, how many were found.

    ``looked_at``: how many jobs were searched through, ``too_large`` of them not wholly.
    ``next``: where the next page begins, None: there is none.
    """

    queue: str
    state: str
    search: str
    start: int
    total: int
    looked_at: int | None
    too_large: int
    next: int | None
    jobs: list[JobRow]


@read("/queues/{queue}")
async def read_queue(dashboard: Dashboard, queue: str) -> QueueAnswer:
    """One queue: settings, counts, limits, what its jobs have used."""
    await dashboard.queue(queue)
    broker, keys = await dashboard.broker(), dashboard.keys(queue)
    now_ms = await broker.now_ms()
    (look,) = await looks_at(broker, [keys], minutes=MINUTES, now_ms=now_ms)
    if isinstance(look, QueueError):
        raise look
    try:
        workers = (await worker_counts(broker, [keys])).get(queue)
    except BrokerUnavailable:
        raise
    except QueueError:  # where this user may not ask
        workers = None
    row = queue_row(queue, look, workers=workers, now_ms=now_ms)
    if row is None:
        message = f"queue {queue!r} was removed just now"
        raise UsageError(message)
    usage = await read_usage(broker, keys)
    has_limit = bool(look.rate_max and look.rate_ms)
    most = look.concurrency
    return {
        "queue": row,
        "limits": {
            "concurrency": most,
            "rate_max": look.rate_max if has_limit else None,
            "rate_seconds": (look.rate_ms or 0) / 1000 if has_limit else None,
            "rate_closed": await window_ttl_ms(broker, keys, max_jobs=None) / 1000,
            "is_maxed": most is not None and row["counts"]["active"] >= most,
        },
        "usage": {
            "attempts": usage.attempts,
            "crashes": usage.crashes,
            "wall": usage.wall,
            "cpu_user": usage.cpu_user,
            "cpu_system": usage.cpu_system,
            "peak_rss": usage.peak_rss,
        },
        "runs_elsewhere": not usage.attempts and bool(row["counts"]["completed"]),
        "is_read_only": dashboard.settings.is_read_only,
    }


@read("/queues/{queue}/jobs")
async def read_jobs(
    dashboard: Dashboard,
    queue: str,
    *,
    state: State = "waiting",
    start: int = 0,
    count: int = 50,
    search: str = "",
) -> JobsPage:
    """Jobs of a state: finished ones newest first, others as they come next; or by a search."""
    if start < 0 or not 1 <= count <= MOST_ROWS:
        message = f"start must be 0 or more, and count 1 to {MOST_ROWS}"
        raise UsageError(message)
    await dashboard.queue(queue)
    if search.strip():
        return await _searched(dashboard, queue, state, search, start=start, count=count)
    broker, keys = await dashboard.broker(), dashboard.keys(queue)
    page = await ids_in(broker, keys, JobState(state), start=start, count=count)
    end = start + len(page.ids)
    return {
        "queue": queue,
        "state": state,
        "search": "",
        "start": start,
        "total": page.total,
        "looked_at": None,
        "too_large": 0,
        "next": end if page.ids and end < page.total else None,
        "jobs": await read_rows(broker, keys, state, page.ids, dashboard.redaction),
    }


async def _searched(
    dashboard: Dashboard, queue: str, state: str, search: str, *, start: int, count: int
) -> JobsPage:
    found = await find_jobs(dashboard, search, queue=queue, states=(state,), most=start + count + 1)
    jobs = found.jobs[start : start + count]
    has_more = len(found.jobs) > start + count
    return {
        "queue": queue,
        "state": state,
        "search": search,
        "start": start,
        "total": len(found.jobs),
        "looked_at": found.looked_at,
        "too_large": found.too_large,
        "next": start + count if has_more else None,
        "jobs": jobs,
    }
