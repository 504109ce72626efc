"""Counts what a worker has done, for progress lines, banners and the demo's summary."""

from __future__ import annotations

from typing import ClassVar

from sandboxq.model.job import UsageTotals
from sandboxq.observe.telemetry import (
    ChildDied,
    ChildRecycled,
    Event,
    HeartbeatSent,
    JobsSettled,
    LocksLost,
)


class Counters:
    """A telemetry listener that adds up."""

    def __init__(self) -> None:
        """Start at zero."""
        self.completed = 0
        self.failed = 0
        self.retried = 0
        self.handed_back = 0
        self.locks_lost = 0
        self.children_died = 0
        self.crashes = 0
        self.usage = UsageTotals()
        self.children_recycled = 0
        self.heartbeats = 0
        # Seconds between two renewals of all locks, at its worst.
        self.longest_gap = 0.0

    # What it counts: others are not even passed to it, and lines may be many.
    KINDS: ClassVar[tuple[type[Event], ...]] = (
        JobsSettled, HeartbeatSent, LocksLost, ChildDied, ChildRecycled,
    )  # fmt: skip

    def __call__(self, event: Event) -> None:
        """Add one event."""
        match event:
            case JobsSettled(completed, failed, retried, handed_back, _, crashes, usage):
                self.crashes += crashes
                self.usage = self.usage + usage if usage.attempts else self.usage
                self.completed += completed
                self.failed += failed
                self.retried += retried
                self.handed_back += handed_back
            case HeartbeatSent(gap):
                self.heartbeats += 1
                self.longest_gap = max(self.longest_gap, gap)
            case LocksLost(job_ids):
                self.locks_lost += len(job_ids)
            case ChildDied():
                self.children_died += 1
            case ChildRecycled():
                self.children_recycled += 1
            case _:
                pass
