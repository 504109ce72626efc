"""Counts what a worker has done, and what its jobs have used.

Counters are for progress lines, banners and the demo's summary. Usage is added to the totals of the
queue in Redis, every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from sandboxq.broker.commands.batches import Mark
from sandboxq.broker.commands.settings import add_usage
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.model.job import UsageTotals
from sandboxq.observe.telemetry import (
    ChildDied,
    ChildRecycled,
    Event,
    HeartbeatSent,
    JobsSettled,
    LocksLost,
)
from sandboxq.worker.service import Seldom

if TYPE_CHECKING:
    from sandboxq.worker.context import WorkerContext

# Seconds between writes: one for hundreds of thousands of jobs. A worker that is killed by SIGKILL
# has not written its last seconds.
_INTERVAL = 5.0


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


class UsageRecorder:
    """A service, and a telemetry listener."""

    def __init__(self, context: WorkerContext) -> None:
        """Listen to what is settled."""
        self._broker = context.broker
        self._keys = context.keys
        self._telemetry = context.telemetry
        self._seldom = Seldom()
        self._unwritten = UsageTotals()
        # Perhaps written: sent again as it was.
        self._sent = UsageTotals()
        self._mark = Mark(context.keys.mark_key(f"{uuid.uuid4()}:usage"), 0)
        context.telemetry.subscribe(self._note, JobsSettled)

    async def run(self) -> None:
        """Write until cancelled; while Redis is away, or refuses, nothing is forgotten."""
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                await self._write()
            except BrokerUnavailable:
                await self._broker.wait_until_back(self._telemetry)
            except QueueError as error:
                self._seldom.warn("the totals of `stats --usage` cannot be written yet", error)

    async def close(self) -> None:
        """Write what is left, and take the mark away, unless Redis is away."""
        with contextlib.suppress(QueueError):
            await self._write()
            await self._broker.command("UNLINK", self._mark.key)

    def _note(self, event: Event) -> None:
        if isinstance(event, JobsSettled) and event.usage.attempts:
            self._unwritten = self._unwritten + event.usage

    async def _write(self) -> None:
        """Write what was sent without an answer, under its mark, and then what came since."""
        while self._sent.attempts or self._unwritten.attempts:
            if not self._sent.attempts:
                self._sent, self._unwritten = replace(self._unwritten), UsageTotals()
                self._mark = self._mark._replace(number=self._mark.number + 1)
            await add_usage(self._broker, self._keys, self._sent, mark=self._mark)
            self._sent = UsageTotals()
