"""What the workers of one queue have done, counted batch by batch, as metrics.

Told by telemetry: counts come once for each exchange with Redis, and so do the measures of attempts
(worker/attempt.py), a sample of them where they are many. Deaths, locks and the like are rare.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from sandboxq import errors
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

if TYPE_CHECKING:
    from sandboxq.observe.exposition import Page

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
_OUTCOMES = "Attempts by what became of them"


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
                self._outcomes.update(
                    completed=completed, failed=failed, retried=retried,
                    handed_back=handed_back, moved=moved,
                )  # fmt: skip
            case JobsClaimed(count):
                self._counts["sandboxq_jobs_claimed"] += count
            case AttemptFailed(cause=cause) if cause in CAUSES:
                self._deaths[cause] += 1
            case HeartbeatSent(gap):
                self._note_gap(gap)
            case _:
                self._count(event)

    def _measure(self, event: AttemptsMeasured) -> None:
        weight, seconds = event.weight, event.seconds
        self._wait.take(event.waits, weight)
        self._run.take(seconds, weight)
        if event.usages:
            _, users, systems, peaks = zip(*event.usages, strict=True)
            self._cpu.take([u + s for u, s in zip(users, systems, strict=True)], weight)
            self._peak.take(peaks, weight)
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
                "From when a job could be run to its first attempt", self._wait),
            "sandboxq_job_run_seconds": ("How long attempts ran", self._run),
            "sandboxq_job_cpu_seconds": ("CPU that attempts used", self._cpu),
            "sandboxq_job_peak_rss_bytes": (
                "The most memory that a child had while it ran an attempt", self._peak),
        }.items():  # fmt: skip
            page.histogram(name, text, histogram, queue=queue)
        for cause, count in self._deaths.items():
            text = "Attempts that ended their child or had to be ended, by cause"
            page.counter("sandboxq_deaths", text, count, queue=queue, cause=cause)
        for name, count in self._counts.items():
            page.counter(name, _COUNTERS[name], count, queue=queue)


_COUNTERS = {
    "sandboxq_jobs_claimed": "Jobs that were claimed",
    "sandboxq_children_died": "Children that ended and were not asked to",
    "sandboxq_children_recycled": "Children that were replaced as planned",
    "sandboxq_circuit_opened": "How often the worker stopped claiming because jobs end children",
    "sandboxq_loop_blocked": "How often a job kept the event loop of its child from turning",
    "sandboxq_jobs_stalled": "Jobs that this worker put back because nobody renewed their locks",
    "sandboxq_locks_lost": "Jobs whose locks this worker lost",
    "sandboxq_outcomes_dropped": "Outcomes that Redis did not take",
}
