"""Metrics of workers, queues and the process, and whether a worker is ready.

Measures counts what the workers of a queue have done, by telemetry: once for each exchange with
Redis, with a sample of the attempts where they are many (worker/attempt.py). The ``add_…``
functions add current values. Redis is asked at most once a second, however many ask.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections import Counter
from time import process_time
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from sandboxq import __version__, errors
from sandboxq.broker.commands.load import QueueLoad, load_of
from sandboxq.errors import SandboxqError
from sandboxq.observe.exposition import BYTES, SECONDS, Histogram
from sandboxq.observe.telemetry import (
    AttemptFailed,
    AttemptsMeasured,
    ChildDied,
    ChildRecycled,
    CircuitOpened,
    Event,
    HeartbeatSent,
    JobsClaimed,
    JobsSettled,
    JobsStalled,
    LocksLost,
    LoopBlocked,
    OutcomesDropped,
)
from sandboxq.pool.children.circuit import CircuitState
from sandboxq.pool.options import ChildState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from sandboxq.observe.exposition import Page
    from sandboxq.pool.children.child import Child
    from sandboxq.worker.worker import Worker

# What the failure of a job is called that ended its child, or had to be ended (deaths.md). What
# else a processor raises is no label: there is no end of names.
CAUSES = frozenset(
    each.__name__
    for each in (
        errors.JobCancelled,
        errors.JobCpuExceeded,
        errors.JobCrashed,
        errors.JobExited,
        errors.JobMemoryExceeded,
        errors.JobProcessesExceeded,
        errors.JobScratchExceeded,
        errors.JobTimeout,
        errors.LockLost,
        errors.SandboxViolation,
    )
)
# The mean run time follows the last so many attempts.
_RECENT = 100
_OUTCOMES = "Attempts by outcome"

_COUNTERS = {
    "sandboxq_jobs_claimed": "Jobs that were claimed",
    "sandboxq_children_died": "Children that ended and were not asked to",
    "sandboxq_children_recycled": "Children that were replaced as planned",
    "sandboxq_circuit_opened": "Times that claiming was stopped because jobs crashed children",
    "sandboxq_loop_blocked": "Times that a job blocked the event loop of its child",
    "sandboxq_jobs_stalled": "Jobs that this worker put back because nobody renewed their locks",
    "sandboxq_locks_lost": "Jobs whose locks this worker lost",
    "sandboxq_outcomes_dropped": "Outcomes that Redis refused",
}
_CHILD_STATES = ("busy", "idle", "starting", "leaving")
_OF_WORKER = {
    "sandboxq_worker_utilization": "Share of the slots of this worker that run a job, 0 to 1",
    "sandboxq_worker_paused": "1 while this worker is paused",
    "sandboxq_worker_stopping": "1 while this worker finishes what it runs and claims no more",
    "sandboxq_jobs_held": "Jobs whose locks this worker keeps",
    "sandboxq_circuit_open": "1 while nothing is claimed because jobs crashed children",
    "sandboxq_lock_renewal_gap_seconds": "The longest time from one renewal of all locks to the "
    "next, in the last minute or two",
    "sandboxq_lock_duration_seconds": "Seconds that a lock lasts without renewal",
}
_SUMS = ("active", "waiting", "delayed", "children")
_HIGHEST = ("load", "oldest_waiting_seconds", "predicted_wait_seconds")
T = TypeVar("T")
# However many ask, Redis is asked so often.
KEPT_SECONDS = 1.0
# Redis answers within a millisecond. Probes give up after a second.
MOST_SECONDS = 1.0


class Measures:
    """A telemetry listener, and what it has counted."""

    # What it counts: others are not even passed to it.
    KINDS: ClassVar[tuple[type[Event], ...]] = (
        AttemptFailed, AttemptsMeasured, ChildDied, ChildRecycled, CircuitOpened, HeartbeatSent,
        JobsClaimed, JobsSettled, JobsStalled, LocksLost, LoopBlocked, OutcomesDropped,
    )  # fmt: skip

    def __init__(self, queue: str) -> None:
        """Count for workers of ``queue``."""
        self._queue = queue
        self._wait = Histogram(SECONDS, 1e3)
        self._run = Histogram(SECONDS)
        self._cpu = Histogram(SECONDS, 1e6)
        self._peak = Histogram(BYTES)
        self._outcomes = Counter[str](completed=0, failed=0, retried=0, handed_back=0, moved=0)
        self._deaths = Counter[str](dict.fromkeys(sorted(CAUSES), 0))
        self._counts = Counter[str](dict.fromkeys(_COUNTERS, 0))
        # Seconds that a job runs, lately; None before the first.
        self.mean_run: float | None = None
        # The longest gap between two renewals of locks: in this minute, and in the one before.
        self._gaps = (0.0, 0.0)
        self._minute = 0

    def __call__(self, event: Event) -> None:
        """Add one event."""
        match event:
            case AttemptsMeasured():
                self._measure(event)
            case JobsSettled(completed, failed, retried, handed_back, moved):
                outcomes = self._outcomes  # one by one: `update` takes ten times as long
                outcomes["completed"] += completed
                outcomes["failed"] += failed
                outcomes["retried"] += retried
                outcomes["handed_back"] += handed_back
                outcomes["moved"] += moved
            case JobsClaimed(count):
                self._counts["sandboxq_jobs_claimed"] += count
            case AttemptFailed(cause=cause) if cause in CAUSES:
                self._deaths[cause] += 1
            case HeartbeatSent(gap):
                self._note_gap(gap)
            case _:
                self._count(event)

    def _measure(self, event: AttemptsMeasured) -> None:
        seconds, waits, usages = event.seconds, event.waits, event.usages
        size = len(seconds)
        self._run.take(seconds, event.count)
        self._wait.take(waits, event.count * len(waits) // size)
        count = event.count * len(usages) // size
        self._cpu.take([user + system for _, user, system, _ in usages], count)
        self._peak.take([peak for _, _, _, peak in usages], count)
        mean = sum(seconds) / len(seconds)
        if self.mean_run is None:
            self.mean_run = mean
        self.mean_run += (mean - self.mean_run) * min(1.0, len(seconds) / _RECENT)

    @property
    def longest_gap(self) -> float:
        """The longest gap between two renewals of locks in the last minute or two, in seconds."""
        self._note_gap(0.0)
        return max(self._gaps)

    def _note_gap(self, gap: float) -> None:
        minute = int(time.monotonic() / 60)
        passed, self._minute = minute - self._minute, minute
        latest, before = self._gaps
        if passed:
            latest, before = 0.0, latest if passed == 1 else 0.0
        self._gaps = max(latest, gap), before

    def _count(self, event: Event) -> None:
        match event:
            case ChildDied():
                self._counts["sandboxq_children_died"] += 1
            case ChildRecycled():
                self._counts["sandboxq_children_recycled"] += 1
            case CircuitOpened():
                self._counts["sandboxq_circuit_opened"] += 1
            case LoopBlocked():
                self._counts["sandboxq_loop_blocked"] += 1
            case JobsStalled(job_ids):
                self._counts["sandboxq_jobs_stalled"] += len(job_ids)
            case LocksLost(job_ids):
                self._counts["sandboxq_locks_lost"] += len(job_ids)
            case OutcomesDropped(job_ids):
                self._counts["sandboxq_outcomes_dropped"] += len(job_ids)
            case _:
                pass

    def add_to(self, page: Page) -> None:
        """Write all of it."""
        queue = self._queue
        for outcome, count in self._outcomes.items():
            page.counter("sandboxq_jobs", _OUTCOMES, count, queue=queue, outcome=outcome)
        for name, (text, histogram) in {
            "sandboxq_job_wait_seconds": (
                "Seconds from when a job could run to its first attempt", self._wait),
            "sandboxq_job_run_seconds": ("Seconds that attempts ran", self._run),
            "sandboxq_job_cpu_seconds": ("CPU seconds that attempts used", self._cpu),
            "sandboxq_job_peak_rss_bytes": (
                "Most resident bytes of a child while it ran an attempt", self._peak),
        }.items():  # fmt: skip
            page.histogram(name, text, histogram, queue=queue)
        for cause, count in self._deaths.items():
            text = "Attempts that crashed their child or were killed, by cause"
            page.counter("sandboxq_deaths", text, count, queue=queue, cause=cause)
        for name, count in self._counts.items():
            page.counter(name, _COUNTERS[name], count, queue=queue)


def add_worker(page: Page, watched: Watched) -> None:
    """Write what is so in a worker, if it runs."""
    worker, queue = watched.worker, watched.worker.keys.queue
    if not worker.is_running:
        return
    states = Counter(map(_state_of, worker.pool.supervisor.children))
    for state in _CHILD_STATES:
        text = "Children of this worker by state"
        page.gauge("sandboxq_children", text, states[state], queue=queue, state=state)
    at_once = worker.settings.concurrency
    running = sum(min(len(child.flying), at_once) for child in worker.pool.supervisor.ready)
    values = (
        min(1.0, running / watched.slots),
        worker.is_paused,
        worker.is_stopping,
        worker.running,
        worker.pool.circuit.state is not CircuitState.CLOSED,
        max(worker.parts.lock_renewer.seconds_since_beat, watched.measures.longest_gap),
        worker.settings.lock_duration,
    )
    for (name, text), value in zip(_OF_WORKER.items(), values, strict=True):
        page.gauge(name, text, value, queue=queue)
    if worker.pool.memory is not None:
        text = "Bytes of memory that a child may use, with all processes it started"
        page.gauge("sandboxq_child_memory_limit_bytes", text, worker.pool.memory, queue=queue)


def _state_of(child: Child) -> str:
    match child.state:
        case ChildState.STARTING:
            return "starting"
        case ChildState.READY:
            return "busy" if child.flying else "idle"
        case _:
            return "leaving"


def add_load(page: Page, queue: str, load: QueueLoad | None) -> None:
    """Write how many jobs a queue has in each state, by the names that Node's export has."""
    page.gauge(
        "sandboxq_redis_up",
        "1 when Redis could be read",
        load is not None,
        queue=queue,
    )
    if load is None:
        return
    for state, count in load.counts.items():
        text = "Number of jobs in the queue by state"
        page.gauge("bullmq_job_count", text, count, queue=queue, state=state)
    for kind, count in load.totals.items():
        text = f"Total number of {kind} jobs"
        page.counter(f"bullmq_job_{kind}", text, count, queue=queue)
    text = "Seconds that the oldest runnable job has waited"
    page.gauge("sandboxq_queue_oldest_waiting_seconds", text, load.oldest, queue=queue)


def add_process(page: Page) -> None:
    """Write what is of this process, whichever queues it has."""
    python = platform.python_version()
    page.gauge("sandboxq_info", "Versions", 1, version=__version__, python=python)
    page.counter("process_cpu_seconds", "CPU that this process alone has used", process_time())


class Watched:
    """A worker that endpoints answer for; it need not be started."""

    def __init__(self, worker: Worker, measures: Measures) -> None:
        """Tell of ``worker``; ``measures`` are those of its queue."""
        self.worker = worker
        self.measures = measures
        self._redis = SharedAnswer(lambda: worker.broker.command("EXISTS", worker.keys["meta"]))
        self._load = SharedAnswer(lambda: load_of(worker.broker, worker.keys))

    async def readiness(self) -> dict[str, Any]:
        """Return what is so and what is not; ``ready`` is all of it."""
        worker = self.worker
        checks = dict.fromkeys(("started", "claiming", "children", "circuit", "redis"), False)
        if worker.is_running:
            checks |= {
                "started": True,
                "claiming": not worker.is_stopping,
                "children": bool(worker.pool.supervisor.ready),
                "circuit": worker.pool.circuit.state is CircuitState.CLOSED,
                "redis": await self._redis.get() is not None,
            }
        is_ready, is_paused = all(checks.values()), worker.is_running and worker.is_paused
        return {"queue": worker.keys.queue, "ready": is_ready, **checks, "paused": is_paused}

    async def load(self) -> QueueLoad | None:
        """Return how much there is to do in its queue; None while Redis does not tell."""
        return await self._load.get() if self.worker.is_running else None

    @property
    def slots(self) -> int:
        """How many jobs it can run at once."""
        worker = self.worker
        size = worker.pool.size if worker.is_running else worker.procs
        return max(1, size * worker.settings.concurrency)

    def row(self, load: QueueLoad) -> dict[str, Any]:
        """Return what scales the workers of its queue."""
        return load_row(self.worker.keys.queue, load, self.slots, self.measures.mean_run)


def load_row(
    queue: str, load: QueueLoad, slots: int, mean_run: float | None = None
) -> dict[str, Any]:
    """Return what scales workers that run ``slots`` jobs at once, each of ``mean_run`` seconds."""
    # All workers of the queue together run at least what is active.
    wait = None if mean_run is None else load.waiting * mean_run / max(load.active, slots)
    return {
        "queue": queue,
        "active": load.active,
        "waiting": load.waiting,
        "delayed": load.delayed,
        "children": slots,
        "load": (load.active + load.waiting) / slots,
        "oldest_waiting_seconds": load.oldest,
        "predicted_wait_seconds": wait,
    }


def total(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return one row for all queues: sums, and of load and waits the highest."""
    rows = list(rows)
    sums = {name: sum(row[name] for row in rows) for name in _SUMS}
    return {**sums, **{name: max((row[name] or 0 for row in rows), default=0) for name in _HIGHEST}}


class SharedAnswer(Generic[T]):
    """What strangers can cause Redis to be asked."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, most: float = MOST_SECONDS) -> None:
        """Ask by calling ``ask``, which may take ``most`` seconds."""
        self._ask = ask
        self._most = most
        self._asking: asyncio.Task[T | None] | None = None
        self._asked_at = 0.0

    async def get(self) -> T | None:
        """Return an answer asked for at most KEPT_SECONDS ago, or the one that is on its way.

        None: Redis is away or refuses.
        """
        now = asyncio.get_running_loop().time()
        former = self._asking
        if former is None or (former.done() and now - self._asked_at > KEPT_SECONDS):
            self._asked_at = now
            self._asking = former = asyncio.create_task(self._answer())
        # Shielded: who gives up must not end it for the others.
        return await asyncio.shield(former)

    async def _answer(self) -> T | None:
        try:
            async with asyncio.timeout(self._most):
                return await self._ask()
        except (TimeoutError, SandboxqError):
            return None
