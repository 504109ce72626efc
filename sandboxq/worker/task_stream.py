"""What the children of a worker did in the last second, for the task stream; only while watched.

Each end of a job is a bar: who ran it, from when to when, how it ended. Jobs of milliseconds that
one child runs one after the other become one bar that says how many they were.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sandboxq.model.outcome import Completed, Failed, HandedBack, Interrupted
from sandboxq.observe.telemetry import (
    BrokerBack,
    ChildDied,
    ChildRecycled,
    CircuitClosed,
    CircuitOpened,
    JobsStalled,
    LocksLost,
    LoopBlocked,
)
from sandboxq.worker.facts import running_since, shown_job

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.model.outcome import Outcome
    from sandboxq.observe.telemetry import Event, Telemetry
    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.pool import Pool

# Seconds. Shorter jobs of one name, with less than that between them, share a bar.
_SHORT = 0.01
# In a message; what is above them is counted.
_MOST_BARS, _MOST_RUNNING, _MOST_MARKS = 500, 256, 50
_MOST_TEXT = 200
# A worker whose event loop is so late (seconds) has that marked.
_LATE = 0.2
_KINDS = (
    *(BrokerBack, ChildDied, ChildRecycled, CircuitClosed, CircuitOpened),
    *(JobsStalled, LocksLost, LoopBlocked),
)  # fmt: skip


class _Bar:
    """The end of one job, or of several short ones; times are seconds of the loop's clock."""

    __slots__ = ("begin", "busy", "count", "end", "job_id", "name", "pid", "raw_name", "state")

    def __init__(self, pid: int, call: Call, begin: float, end: float, state: str) -> None:
        self.pid = pid
        self.job_id, self.name = shown_job(call)
        self.raw_name: bytes = call.context.job.name
        self.begin = begin
        self.end = end
        self.state = state
        self.count = 1
        self.busy = end - begin


class Recorder:
    """Hears of ends and deaths while somebody watches."""

    def __init__(self, broker: Broker, pool: Pool, telemetry: Telemetry) -> None:
        """Hear of what ``pool`` runs; nothing before ``start``."""
        self._broker = broker
        self._pool = pool
        self._telemetry = telemetry
        self._clock = asyncio.get_running_loop().time
        self._bars: list[_Bar] = []
        self._last: dict[int, _Bar] = {}  # by child
        self._marks: list[tuple[float, int, str, str]] = []
        self._left_out = 0

    def start(self) -> None:
        """Hear from now on; twice is harmless."""
        if self._pool.on_end is None:
            self._pool.on_end = self._take_end
            self._telemetry.subscribe(self._take_event, *_KINDS)

    def stop(self) -> None:
        """Hear no more, and forget; twice is harmless."""
        if self._pool.on_end is not None:
            self._pool.on_end = None
            self._telemetry.unsubscribe(self._take_event)
            self._forget()

    def _forget(self) -> None:
        self._bars, self._last, self._marks, self._left_out = [], {}, [], 0

    def _take_end(self, child: Child, call: Call, outcome: Outcome, seconds: float) -> None:
        end, pid = self._clock(), child.pid
        state = "completed" if isinstance(outcome, Completed) else _state_of(child, outcome)
        if seconds < _SHORT:
            last = self._last.get(pid)
            if (
                last is not None
                and last.raw_name == call.context.job.name
                and last.state == state
                and end - seconds - last.end < _SHORT
            ):
                last.end = end
                last.count += 1
                last.busy += seconds
                return
        if len(self._bars) >= _MOST_BARS:
            self._left_out += 1
            return
        bar = _Bar(pid, call, end - seconds, end, state)
        self._bars.append(bar)
        if seconds < _SHORT:
            self._last[pid] = bar
        else:
            self._last.pop(pid, None)

    def _take_event(self, event: Event) -> None:
        if len(self._marks) < _MOST_MARKS:
            self._marks.append((self._clock(), getattr(event, "pid", 0), *_mark_of(event)))

    def taken(self, lag: float) -> dict[str, Any]:
        """Return what there was since the last time, and what runs; times are ms since 1970.

        ``bars``: pid, begin, end, name, job, state, how many, ms that they ran; ``running``: pid,
        begin, name, job; ``marks``: time, pid or 0, kind, text. ``left_out`` counts ends beyond.
        """
        loop_now, now_ms = self._clock(), self._broker.time.now_ms()

        def ms(at: float) -> int:
            return round(now_ms - (loop_now - at) * 1000)

        if lag > _LATE:
            text = f"the worker's event loop was late by {lag:.2f} s"
            self._marks.append((loop_now, 0, "late", text))
        children = self._pool.supervisor.children
        running = [
            (child.pid, ms(running_since(child, call)), *reversed(shown_job(call)))
            for child in children[:_MOST_RUNNING]
            for call in child.running_calls()
        ]
        message = {
            "now": now_ms,
            "pids": [child.pid for child in children[:_MOST_RUNNING]],
            "bars": [
                (
                    *(bar.pid, ms(bar.begin), ms(bar.end), bar.name, bar.job_id),
                    *(bar.state, bar.count, round(bar.busy * 1000, 3)),
                )
                for bar in self._bars
            ],
            "running": running[:_MOST_RUNNING],
            "marks": [(ms(at), pid, kind, text) for at, pid, kind, text in self._marks],
            "left_out": self._left_out,
        }
        self._forget()
        return message


def _state_of(child: Child, outcome: Outcome) -> str:
    match outcome:
        case Interrupted():
            return "died"
        case Failed(is_crash=is_crash):
            return "died" if is_crash or child.kill_reason is not None else "failed"
        case HandedBack():
            return "back"
        case _:
            return "moved"


def _mark_of(event: Event) -> tuple[str, str]:  # noqa: PLR0911 - one for each kind
    """Return the kind and the text of what is marked."""
    match event:
        case ChildDied(_, reason):
            return "died", reason[:_MOST_TEXT]
        case ChildRecycled(_, why):
            return "recycled", f"the child was replaced {why}"[:_MOST_TEXT]
        case LoopBlocked(_, job_id, seconds, waiting):
            text = f"job {job_id[:_MOST_TEXT]} blocks the event loop for {seconds:.1f} s"
            return "blocked", f"{text}, {waiting} jobs wait"
        case CircuitOpened(reason, seconds):
            return "throttled", f"nothing is claimed for {seconds:g} s: {reason}"[:_MOST_TEXT]
        case CircuitClosed(seconds):
            return "resumed", f"jobs are claimed again after {seconds:.1f} s"
        case BrokerBack(seconds):
            return "away", f"Redis was away for {seconds:.1f} s"
        case JobsStalled(job_ids):
            return "stalled", f"{len(job_ids)} jobs were found without a lock"
        case LocksLost(job_ids):
            return "lost", f"{len(job_ids)} locks were lost"
        case _:
            return "other", ""
