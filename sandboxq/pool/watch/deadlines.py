"""Ends calls on time: first their code is told, then their process tree killed from outside.

sent ─► begun ──timeout──► told (pipe and signal, signal again) ──grace──► killed
                           ▲ cancelled: at once

One timer for all calls of a pool. A call without a timeout costs nothing here, one with a timeout a
comparison: the timer goes off when the oldest could be late, and looks at all that are under way.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sandboxq.errors import JobTimeout
from sandboxq.pool.placement import READING_SECONDS
from sandboxq.pool.watch.loop import BLOCKED_SECONDS, blocked_loop

if TYPE_CHECKING:
    import asyncio

    from sandboxq.errors import ChildError
    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.pool import Pool

# The loop rounds its timers to milliseconds, and must not go off too early.
_SLACK = 0.001
# A signal that came while the child was in the middle of a message is sent again, later and later.
_FIRST_AGAIN = 0.02
# No timer is set for longer; looking once more costs nothing.
_LONGEST = 3600.0


class Deadlines:
    """Watches what the children of one pool run."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool) -> None:
        """End calls of ``pool``."""
        self._loop = loop
        self._pool = pool
        self._next = inf
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, call: Call) -> None:
        """Take note that a call with a timeout was sent to a child."""
        self._look_by(call.sent_at + (call.timeout or 0.0))

    def ask_to_end(self, child: Child, call: Call, error: ChildError, grace: float) -> None:
        """Tell the code of a call that it is to end for ``error``; kill it ``grace`` s from now.

        Asked again, the first error and the shorter grace count.
        """
        now = self._loop.time()
        call.kill_at = min(call.kill_at, now + grace)
        if call.ending is None or isinstance(call.ending, JobTimeout):
            call.ending = error
        if not call.asked_at:
            call.asked_at = now
            child.cancel(call)
            child.interrupt()
            if child.concurrency > 1:
                child.ask_whether_it_turns()
        self._look_by(min(now + _FIRST_AGAIN, call.kill_at))

    def stop(self) -> None:
        """Watch no more; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_by(self, when: float) -> None:
        if when < self._next:
            self.stop()
            self._next = when
            self._timer = self._loop.call_later(
                min(max(0.0, when - self._loop.time()) + _SLACK, _LONGEST), self._look
            )

    def _look(self) -> None:
        self._timer, self._next = None, inf
        now = self._loop.time()
        for child in self._pool.supervisor.children:
            for call in list(child.flying.values()):
                if child.doom is None and call.seq in child.flying:
                    self._look_by(self._next_step(child, call, now))

    def _next_step(self, child: Child, call: Call, now: float) -> float:
        """Do what is due for a call; return when to look again."""
        if call.asked_at:
            if now >= call.kill_at:
                return self._end(child, call, now)
            child.interrupt()
            return min(call.kill_at, now + max(_FIRST_AGAIN, now - call.asked_at))
        if call.timeout is None:
            return inf
        if not call.begun_at and child.is_reading(call, now - READING_SECONDS):
            return now + call.timeout
        if not self._has_begun(child, call, now):
            return now + call.timeout
        due = call.begun_at + call.timeout
        return due if now < due else self._end_late(child, call, now, due)

    def _end_late(self, child: Child, call: Call, now: float, due: float) -> float:
        """Have a call end whose time is up, unless its child has not even read it."""
        if child in self._pool.supervisor.ready:
            self._pool.placement.unsend(child)
            if call.seq not in child.flying:
                return inf  # it was not even read: it is sent to another
        error = _late(child, call, now, is_killed=False)
        self.ask_to_end(child, call, error, due + call.grace - now)
        return inf

    def _has_begun(self, child: Child, call: Call, now: float) -> bool:
        """Tell whether the clock of a call runs, and since when: ``call.begun_at``.

        Waiting behind another call does not count. Where a child runs one call at a time it runs
        since it was sent, or since the answer to the one before was heard. The jobs of an event
        loop wait for each other: where they are trusted so far, their child tells when each began.
        Where it denies that for a whole timeout, the clock is started all the same.
        """
        if call.begun_at:
            return True
        if child.concurrency == 1:
            if next(iter(child.flying.values())) is not call:
                return False
            read_at = child.channel.read_at(call.seq)
            self._pool.calls.begin(call, max(call.sent_at, child.progress_at, read_at))
            return True
        if child.is_strict:
            self._pool.calls.begin(call, call.sent_at)
            return True
        if child.has_begun(call):
            self._pool.calls.begin(call, _begin_of(child, call, now))
            return True
        waited = now - call.sent_at
        if waited > (call.timeout or 0.0) and child in self._pool.supervisor.ready:
            self._pool.placement.unsend(child)
            if call.seq in child.flying:
                self._pool.calls.begin(call, now)
        return False

    def _end(self, child: Child, call: Call, now: float) -> float:
        """Kill the child, for this call or for the one that keeps it from ending; or look later."""
        blocker = child.call_on_loop() if child.blocked_for() else None
        if blocker is None or blocker is call:
            self._kill(child, call, now)
            return inf
        wait = BLOCKED_SECONDS - child.blocked_for()
        if wait > 0:
            return now + wait
        if isinstance(call.ending, JobTimeout):
            call.ending, call.asked_at = None, 0.0  # it had no chance: it runs again
        self._pool.doom(child, blocked_loop(child, "could not end a job in time"), victim=blocker)
        return inf

    def _kill(self, child: Child, call: Call, now: float) -> None:
        if isinstance(call.ending, JobTimeout):
            call.ending = _late(child, call, now, is_killed=True)
        if call.ending is not None:
            self._pool.doom(child, call.ending, victim=call)


def _begin_of(child: Child, call: Call, now: float) -> float:
    begun_at = child.begun_at(call)
    return call.sent_at if begun_at is None else min(max(call.sent_at, begun_at), now)


def _late(child: Child, call: Call, now: float, *, is_killed: bool) -> JobTimeout:
    """Return why a call is ended; its facts stand beside the job."""
    elapsed = now - call.begun_at
    text = f"the job ran longer than its timeout of {call.timeout:g} s"
    if is_killed:
        text += f", did not end when it was told, and {child.fate} after {elapsed:.2f} s"
    error = JobTimeout(text)
    error.facts = {
        "pid": str(child.pid),
        "limit": f"{call.timeout:g}",
        "elapsed": f"{elapsed:.3f}",
        "end": "hard" if is_killed else "soft",
    }
    return error
