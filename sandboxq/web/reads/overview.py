"""All queues at a glance: settings, counts, throughput, the oldest job that waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from sandboxq.broker.commands.queues import looks_at
from sandboxq.broker.commands.workers import worker_counts
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.commands.queues import QueueLook
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

MINUTES = 60


class Counts(TypedDict):
    """Jobs by state."""

    waiting: int
    prioritized: int
    delayed: int
    active: int
    completed: int
    failed: int
    waiting_children: int


class QueueRow(TypedDict):
    """One queue. Seconds; minutes are the newest first, the first of them runs.

    ``workers`` is None where this user may not ask. ``error``: its keys cannot be read.
    """

    name: str
    is_paused: bool
    counts: Counts
    completed_minutes: list[int]
    failed_minutes: list[int]
    completed_total: int
    failed_total: int
    oldest: float | None
    workers: int | None
    concurrency: int | None
    rate_limit: str | None
    version: str | None
    error: str | None


class Overview(TypedDict):
    """``is_complete``: there are no other queues; else more are being looked for, or left out."""

    prefix: str
    redis: str
    now_ms: int
    is_complete: bool
    queues: list[QueueRow]


@read("/overview")
async def read_overview(dashboard: Dashboard) -> Overview:
    """All queues: counts by state, the last hour by minutes, the oldest job that waits."""
    found = await dashboard.queues()
    broker = await dashboard.broker()
    queues = [dashboard.keys(name) for name in found.names]
    now_ms = await broker.now_ms()
    looks = await looks_at(broker, queues, minutes=MINUTES, now_ms=now_ms)
    workers = await _workers(broker, queues)
    rows = [
        queue_row(keys.queue, look, workers=workers.get(keys.queue), now_ms=now_ms)
        for keys, look in zip(queues, looks, strict=True)
    ]
    return {
        "prefix": dashboard.prefix,
        "redis": broker.endpoint.safe,
        "now_ms": now_ms,
        "is_complete": found.is_complete,
        "queues": [row for row in rows if row is not None],
    }


async def _workers(broker: Broker, queues: Sequence[QueueKeys]) -> dict[str, int]:
    """Return how many workers each queue has; nothing where this user may not ask."""
    try:
        return await worker_counts(broker, queues)
    except BrokerUnavailable:
        raise
    except QueueError:
        return {}


def queue_row(
    name: str, look: QueueLook | QueueError, *, workers: int | None, now_ms: int
) -> QueueRow | None:
    """Return the row of a queue, None when it is gone meanwhile."""
    if isinstance(look, QueueError):
        return {**_EMPTY, "name": name, "workers": workers, "error": str(look)}
    if not look.exists:
        return None
    return {
        "name": name,
        "is_paused": look.is_paused,
        "counts": _counts(look.counts),
        "completed_minutes": look.completed.minutes,
        "failed_minutes": look.failed.minutes,
        "completed_total": look.completed.total,
        "failed_total": look.failed.total,
        "oldest": None if look.due_ms is None else max(0.0, (now_ms - look.due_ms) / 1000),
        "workers": workers,
        "concurrency": look.concurrency,
        "rate_limit": rate_text(look.rate_max, look.rate_ms),
        "version": look.version or None,
        "error": None,
    }


def _counts(counts: dict[str, int]) -> Counts:
    return {
        "waiting": counts["waiting"],
        "prioritized": counts["prioritized"],
        "delayed": counts["delayed"],
        "active": counts["active"],
        "completed": counts["completed"],
        "failed": counts["failed"],
        "waiting_children": counts["waiting-children"],
    }


def rate_text(most: int | None, duration_ms: int | None) -> str | None:
    """Return a rate limit as it is given on the command line: ``10/1s``."""
    if not most or not duration_ms:
        return None
    seconds = duration_ms / 1000
    return f"{most}/{seconds:g}s"


_EMPTY: QueueRow = {
    "name": "",
    "is_paused": False,
    "counts": _counts(
        dict.fromkeys(
            (
                "waiting",
                "prioritized",
                "delayed",
                "active",
                "completed",
                "failed",
                "waiting-children",
            ),
            0,
        )
    ),
    "completed_minutes": [],
    "failed_minutes": [],
    "completed_total": 0,
    "failed_total": 0,
    "oldest": None,
    "workers": None,
    "concurrency": None,
    "rate_limit": None,
    "version": None,
    "error": None,
}
