"""Ends calls on time: first their code is told, then their process tree killed from outside.

sent ─► begun ──timeout──► told (pipe and signal, signal again) ──grace──► killed
                           ▲ cancelled: at once

One timer for all calls of a pool. A call without a timeout costs nothing here, one with a timeout a
comparison: the timer goes off when the oldest could be late, and looks at all that are under way.

LoopWatch notices event loops that are blocked by a job that computes or sleeps without ``await``.
Such a job stops all others in its child, and none of them can be told to end. Each loop that has
jobs is sent a PING some times a second; the activity page says whose code has the loop meanwhile.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

from sandboxq.errors import JobBlockedLoop, JobTimeout
from sandboxq.observe.telemetry import LoopBlocked
from sandboxq.pool import last_stack
from sandboxq.pool.placement import READING_SECONDS
from sandboxq.pool.stacks import read_main_stack, read_stacks

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.errors import ChildError
    from sandboxq.observe.telemetry import Telemetry
    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.core import PoolCore

# The loop rounds its timers to milliseconds, and must not go off too early.
_SLACK = 0.001
# A signal that came while the child was in the middle of a message is sent again, later and later.
_FIRST_AGAIN = 0.02
# No timer is set for longer; looking once more costs nothing.
_LONGEST = 3600.0

_INTERVAL = 0.2
# A loop that owes its sign for so long is blocked: said then, at most 1 s after it began.
_WORTH_SAYING = 0.7
# A job is killed for others only when it has blocked them for so long.
BLOCKED_SECONDS = 1.0


class Deadlines:
    """Watches what the children of one pool run."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: PoolCore) -> None:
        """End calls of ``pool``."""
        self._loop = loop
        self._pool = pool
        self._next = inf
        self._timer: asyncio.TimerHandle | None = None
        self._taking: set[asyncio.Task[None]] = set()

    def expect(self, call: Call) -> None:
        """Take note that a call with a timeout was sent to a child."""
        self._look_by(call.sent_at + (call.timeout or 0.0))

    def ask_to_end(self, child: Child, call: Call, error: ChildError, grace: float) -> None:
        """Tell the code of a call that it is to end for ``error``; kill it ``grace`` s from now.

        Asked again, the first error and the shorter grace count.
        """
        now = self._loop.time()
        call.kill_at = min(call.kill_at, now + max(grace, last_stack.TAKING_SECONDS))
        if call.ending is None or isinstance(call.ending, JobTimeout):
            call.ending = error
            error.facts = {"end": "soft", **(error.facts or {})}
        if not call.asked_at:
            call.asked_at = now
            self._take_stack(child, call)
            child.cancel(call)
            child.interrupt()
            if child.concurrency > 1:
                child.ask_whether_it_turns()
        self._look_by(min(now + _FIRST_AGAIN, call.kill_at))

    def _take_stack(self, child: Child, call: Call) -> None:
        """Have it written where the job is, before its code is told: nothing waits for that."""
        if not child.is_async:
            last_stack.ask(child)
            return
        task = asyncio.create_task(_take_stack_of_task(child, call))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    def stop(self) -> None:
        """Stop watching; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._taking:
            task.cancel()

    def _look_by(self, when: float) -> None:
        if when < self._next:
            if self._timer is not None:
                self._timer.cancel()
            self._next = when
            self._timer = self._loop.call_later(
                min(max(0.0, when - self._loop.time()) + _SLACK, _LONGEST), self._look
            )

    def _look(self) -> None:
        self._timer, self._next = None, inf
        now = self._loop.time()
        for child in self._pool.supervisor.children:
            for call in list(child.flying.values()):
                if child.kill_reason is None and call.seq in child.flying:
                    self._look_by(self._next_step(child, call, now))

    def _next_step(self, child: Child, call: Call, now: float) -> float:
        """Do what is due for a call; return when to check again."""
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
        self._pool.kill_child(
            child, blocked_loop(child, "could not end a job in time"), victim=blocker
        )
        return inf

    def _kill(self, child: Child, call: Call, now: float) -> None:
        error = call.ending
        if error is None:
            return
        taken = (error.facts or {}).get(last_stack.FACT, "")
        if isinstance(error, JobTimeout):
            error = call.ending = _late(child, call, now, is_killed=True)
        error.facts = {**(error.facts or {}), "end": "hard"}
        last_stack.put(error, taken)
        if not child.is_async:
            last_stack.add_to(error, child)
        self._pool.kill_child(child, error, victim=call)


async def _take_stack_of_task(child: Child, call: Call) -> None:
    stacks = await read_stacks(child)
    if call.ending is not None:
        last_stack.put(call.ending, stacks.of(call.seq))


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


class LoopWatch:
    """Looks at the children of one pool of async processors."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: PoolCore,
        telemetry: Telemetry,
        *,
        limit: float | None,
        on_held: Callable[[Child, bytes], None],
    ) -> None:
        """Tell ``telemetry`` of blocked loops; end jobs that block one for ``limit`` seconds.

        ``on_held`` gets the answers of other jobs that such a loop does not come to send.
        """
        self._on_held = on_held
        self._loop = loop
        self._pool = pool
        self._telemetry = telemetry
        self._limit = limit
        self._told: set[int] = set()  # numbers of the children of which it was said
        self._telling: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and again and again."""
        self._timer = self._loop.call_later(_INTERVAL, self.start)
        told, self._told = self._told, set()
        for child in self._pool.supervisor.children:
            if child.flying and child.kill_reason is None:
                self._look(child, told)

    def stop(self) -> None:
        """Stop looking; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._telling:
            task.cancel()

    def _look(self, child: Child, told: set[int]) -> None:
        answers = child.packets.take_stale()
        if answers:
            self._on_held(child, answers)
        seconds = child.blocked_for()
        if seconds < _WORTH_SAYING:
            child.ask_whether_it_turns()
            return
        self._told.add(child.number)
        blocker = child.call_on_loop()
        if child.number not in told:
            task = asyncio.create_task(self._tell(child, blocker, seconds))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        if self._limit is not None and seconds >= self._limit:
            error = blocked_loop(child, f"may do so for {self._limit:g} s")
            last_stack.add_to(error, child)  # read when it was told
            self._pool.kill_child(child, error, victim=blocker)

    async def _tell(self, child: Child, blocker: Call | None, seconds: float) -> None:
        job_id = "" if blocker is None else blocker.key.decode(errors="replace")
        waiting = len(child.flying) - (blocker is not None)
        stack = await read_main_stack(child)
        self._telemetry.emit(LoopBlocked(child.pid, job_id, seconds, waiting, stack))


def blocked_loop(child: Child, why: str) -> JobBlockedLoop:
    """Return why the job is ended that blocks the loop of a child."""
    seconds = child.blocked_for()
    text = f"the job blocked the event loop of child {child.pid} for {seconds:.2f} s and {why}"
    error = JobBlockedLoop(text)
    error.facts = {"pid": str(child.pid), "elapsed": f"{seconds:.3f}"}
    return error
