"""Decides what happens to the calls of a dead child, and which of them is to blame.

never begun ──► another child        the one it was ended for ──► that error
began alone ──► failed, a crash      had the event loop ──► failed, a crash
beside the culprit ──► back          unknown ──► back, a crash for each

What a child reports that a job has left behind is logged once for each kind, and not charged to
other jobs.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sandboxq.child import leftover_kinds
from sandboxq.errors import JobCancelled, JobMemoryExceeded, LockLost
from sandboxq.model.outcome import Failed, HandedBack, Interrupted
from sandboxq.pool.outcomes import failure_from_abandoned, failure_from_death

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.core import PoolCore
    from sandboxq.pool.outcomes import Death

# A child can forge its activity page: a job that denies having begun counts at the third death.
_UNBEGUN_LIMIT = 2
# For these a child is ended without any fault of its jobs.
_FAULTLESS = (JobCancelled, LockLost)
# Of the jobs that ran beside one whose child died.
_MOST_NEIGHBOURS = 10
_MOST_ID = 100
_log = logging.getLogger("sandboxq.pool")
# What helps, where it is more than to clean up.
_HINTS = {
    leftover_kinds.PROCESSES: " (leave_processes lets them run on)",
    leftover_kinds.DESCRIPTORS: " (what is to stay open for all jobs, setup() opens)",
    leftover_kinds.THREADS: " (what is to run for all jobs, setup() starts)",
    leftover_kinds.MEMORY: " (what is to be kept for all jobs, the module or setup() loads)",
}


class Blame:
    """Settles deaths for one pool."""

    def __init__(self, pool: PoolCore) -> None:
        """Tell ``pool`` the outcomes."""
        self._pool = pool

    def settle(self, child: Child, death: Death, now: float) -> None:
        """Settle what a dead child held: never begun goes back, begun has an outcome."""
        self._return_unbegun(child)
        self._pool.unsend(child)
        culprit = child.victim or child.call_on_loop() or child.running_call()
        calls = self._pool.calls.drop(child)
        for call in calls:
            seconds = now - max(call.sent_at, child.progress_at)
            if len(calls) == 1 and death.max_rss:
                user = round(death.user * 1e6) - child.user_us
                system = round(death.system * 1e6) - child.system_us
                call.usage = round(seconds * 1e6), max(0, user), max(0, system), death.max_rss
            if call.ending is not None:
                call.ending.facts = {**(call.ending.facts or {}), "end": "hard"}
            outcome = self._outcome(child, call, death, culprit)
            if isinstance(outcome, Failed):
                outcome.facts = {**(outcome.facts or {}), **self._beside(child, call, calls)}
            self._pool.tell(call, outcome, seconds)
            if self._pool.on_end is not None:
                self._pool.on_end(child, call, outcome, seconds)
            if not self._pool.is_ending:
                self._count_crash(child, call, outcome, death)

    def _beside(self, child: Child, call: Call, calls: list[Call]) -> dict[str, str]:
        """Return some jobs that ran at the time: in the same child first, then in others."""
        others = [each for each in calls if each is not call]
        for one in self._pool.supervisor.children:
            if one is not child and len(others) < _MOST_NEIGHBOURS:
                others += one.running_calls()
        ids = [each.key.decode(errors="replace")[:_MOST_ID] for each in others[:_MOST_NEIGHBOURS]]
        return {"neighbours": "\n".join(ids)} if ids else {}

    def _return_unbegun(self, child: Child) -> None:
        """Put back what the child had read but not begun; what we end ourselves stays ended.

        A call that shared a packet with the one before it can have written no mark.
        """
        for index, call in enumerate(list(child.flying.values())):
            is_wanted = (child.kill_reason is None or child.victim is not call) and not call.ending
            is_behind = call.is_packed and index > 0
            if not is_wanted or child.has_begun(call):
                continue
            if is_behind or call.unbegun < _UNBEGUN_LIMIT:
                call.unbegun += not is_behind
                self._pool.calls.take_back(child, [call])

    def _outcome(self, child: Child, call: Call, death: Death, culprit: Call | None) -> Outcome:
        if self._pool.is_ending and child.kill_reason is None:
            return HandedBack(was_started=True)
        if death.is_abandoned:
            call.ending = None  # told in this failure, which is final
            is_mine = child.victim in (None, call)
            return failure_from_abandoned(child.kill_reason if is_mine else None, pid=child.pid)
        if child.left and isinstance(child.kill_reason, JobMemoryExceeded) and culprit is call:
            return HandedBack(was_started=True, is_neighbour=True)  # jobs before it have left some
        is_outside = bool(death.note) and child.kill_reason is None
        if culprit is not None and culprit is not call and not is_outside:
            is_fault = not isinstance(child.kill_reason, _FAULTLESS)
            return HandedBack(was_started=True, is_neighbour=is_fault)
        tail = child.lines.stderr_tail()
        failure = failure_from_death(death, pid=child.pid, error=child.kill_reason, stderr=tail)
        if not is_outside and culprit is not None:
            return failure
        failure.is_crash = True  # without a limit it would go back for ever
        return Interrupted(failure)

    def _count_crash(self, child: Child, call: Call, outcome: Outcome, death: Death) -> None:
        circuit = self._pool.circuit
        if isinstance(outcome, Interrupted):
            circuit.crash(death.note or f"child {child.pid}", outcome.failure.reason)
        elif isinstance(outcome, Failed) and outcome.is_crash:
            circuit.crash(call.key.decode(errors="replace"), outcome.reason)


class Leftovers:
    """Hears the children of one pool."""

    def __init__(self, dismiss: Callable[[Child, str], None]) -> None:
        """``dismiss`` replaces children that leave."""
        self._dismiss = dismiss
        self._told: set[tuple[int, bool]] = set()

    def hear(self, child: Child, call: Call | None, detail: int, count: int) -> None:
        """Take a report of what a job has left; ``call`` is that job while it is not over."""
        kind, leaves = detail & ~leftover_kinds.LEAVES, bool(detail & leftover_kinds.LEAVES)
        text = leftover_kinds.text_of(kind, count)
        if kind == leftover_kinds.MEMORY:
            child.left = count
        is_news = (kind, leaves) not in self._told
        self._told.add((kind, leaves))
        if is_news and (leaves or kind != leftover_kinds.MEMORY):
            job = f"job {call.key.decode(errors='replace')}" if call else "a job"
            done = "its child is replaced" if leaves else "cleared"
            _log.warning(
                "%s left %s in child %d: %s%s; logged once", job, text, child.pid, done,
                _HINTS.get(kind, ""),
            )  # fmt: skip
        if leaves:
            self._dismiss(child, f"for what jobs left: {text}")
