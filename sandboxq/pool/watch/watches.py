"""All watches of one pool; here are those of unresponsive children, CPU time and held answers.

    idle ─► PING ─► no PONG ─┐
    given a call ─► not begun ┴─► five checks ─► ended; its calls go to others

Checks are counted, not seconds: when the coordinator is stopped too (a laptop that sleeps, a frozen
container), its children are not unresponsive.

CPU time of a call counts from the first check that finds it running, at most one interval late;
calls of microseconds are never seen.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sandboxq.errors import JobCpuExceeded
from sandboxq.pool import last_stack
from sandboxq.pool.breach import Breach
from sandboxq.pool.options import ChildState
from sandboxq.pool.watch.deadlines import LoopWatch
from sandboxq.pool.watch.usage import ScratchWatch, TreeWatch
from sandboxq.sandbox.processes import descendants_of, read_file

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from sandboxq.errors import ChildError
    from sandboxq.observe.telemetry import Telemetry
    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.core import PoolCore
    from sandboxq.pool.options import PoolOptions

_INTERVAL = 1.0
# So many checks without a sign: an idle child on a loaded machine answers in milliseconds.
_LOOKS = 5
_CPU_INTERVAL = 0.1
_TICK = os.sysconf("SC_CLK_TCK")

# An answer that is held back while the next job takes long is here after two looks at most.
_LOOK_SECONDS = 0.001


class Watches:
    """The watches that the policy needs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: PoolCore,
        terms: PoolOptions,
        *,
        telemetry: Telemetry,
        max_block: float | None,
        on_held: Callable[[Child, bytes], None],
        end_soon: Callable[[Child, Call, ChildError], None],
    ) -> None:
        """Watch the children of ``pool``; ``max_block`` and ``on_held``: see LoopWatch.

        ``end_soon`` tells a call that it is to end.
        """
        self._loop = loop
        self._pool = pool
        supervisor, policy = pool.supervisor, terms.policy
        tree = TreeWatch(loop, supervisor, self._end, policy=policy)
        self._watches: list[TreeWatch | ScratchWatch | CpuWatch | LoopWatch | UnresponsiveWatch] = [
            tree,
            UnresponsiveWatch(loop, pool),
        ]
        if policy.name != "none":
            self._watches.append(ScratchWatch(loop, supervisor, self._end, policy))
        if policy.cpu_seconds is not None:
            self._watches.append(CpuWatch(loop, pool, policy.cpu_seconds, end_soon))
        if terms.concurrency > 1:
            watch = LoopWatch(loop, pool, telemetry, limit=max_block, on_held=on_held)
            self._watches.append(watch)

    def start(self) -> None:
        """Look now, and again and again."""
        for watch in self._watches:
            watch.start()

    def stop(self) -> None:
        """Stop looking; twice is harmless."""
        for watch in self._watches:
            watch.stop()

    def _end(self, child: Child, error: ChildError) -> None:
        """Kill a child that uses too much, when its stack was taken, or cannot be."""
        call = child.running_call()
        if call is not None and last_stack.ask(child):
            self._loop.call_later(last_stack.TAKING_SECONDS, self._kill, child, error, call)
        else:
            self._pool.kill_child(child, error, call)

    def _kill(self, child: Child, error: ChildError, call: Call) -> None:
        if child.kill_reason is None and call.seq in child.flying:  # else the next look decides
            last_stack.add_to(error, child)
            self._pool.kill_child(child, error, call)


class UnresponsiveWatch:
    """Checks the children of one pool once a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: PoolCore) -> None:
        """End children of ``pool``."""
        self._loop = loop
        self._pool = pool
        # By child: what it owes, and for how many looks it has owed just that.
        self._owed: dict[int, tuple[object, int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and again and again."""
        self._timer = self._loop.call_later(_INTERVAL, self.start)
        owed, self._owed = self._owed, {}
        for child in self._pool.supervisor.children:
            if child.state in (ChildState.READY, ChildState.LEAVING) and child.kill_reason is None:
                self._look(child, *owed.get(child.number, (None, 0)))

    def stop(self) -> None:
        """Stop looking; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, child: Child, before: object, looks: int) -> None:
        owes = child.owes()
        if owes is None:
            if child.state is ChildState.READY and not child.flying:
                child.ping()
            return
        looks = looks + 1 if owes == before else 0
        self._owed[child.number] = owes, looks
        if looks >= _LOOKS:
            child.is_unresponsive = True
            self._pool.end_breach(child, Breach("does not read what it is sent"))


class CpuWatch:
    """Ends calls that have used up their budget: told first, killed after the call's grace."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: PoolCore,
        limit: float,
        end_soon: Callable[[Child, Call, ChildError], None],
    ) -> None:
        """Grant each call of ``pool`` so many seconds of CPU, with all that it starts."""
        self._loop = loop
        self._pool = pool
        self._limit = limit
        self._end_soon = end_soon
        self._seen: dict[int, tuple[int, float]] = {}  # by child: the call, and CPU at first sight
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and again and again."""
        self._timer = self._loop.call_later(_CPU_INTERVAL, self.start)
        before, self._seen = self._seen, {}
        for child in self._pool.supervisor.children:
            if child.pid and child.kill_reason is None:
                self._look(child, before)

    def stop(self) -> None:
        """Stop looking; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, child: Child, before: dict[int, tuple[int, float]]) -> None:
        call = child.running_call() or next(iter(child.flying.values()), None)
        if call is None:
            return
        used = cpu_of_tree(child.pid)
        seq, base = before.get(child.number, (0, 0.0))
        if seq != call.seq:
            seq, base = call.seq, used
        self._seen[child.number] = seq, base
        if used - base >= self._limit and not call.asked_at:
            text = f"the job used {used - base:.2f} s of CPU, its policy grants {self._limit:g} s"
            error = JobCpuExceeded(text)
            error.facts = {
                "pid": str(child.pid),
                "limit": f"{self._limit:g}",
                "used": f"{used - base:.2f}",
            }
            self._end_soon(child, call, error)


def cpu_of_tree(pid: int) -> float:
    """Return the CPU seconds of a process, all that lives below it and all that it waited for."""
    return sum(_cpu_of(each) for each in (pid, *descendants_of(pid)))


def _cpu_of(pid: int) -> float:
    fields = read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / _TICK


class PacketWatch:
    """Fetches answers that are held back for too long, while there are any packets."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        children: Callable[[], Iterable[Child]],
        on_answers: Callable[[Child, bytes], None],
    ) -> None:
        """Look at ``children``; pass on what they held back."""
        self._loop = loop
        self._children = children
        self._on_answers = on_answers
        self._timer: asyncio.TimerHandle | None = None

    def expect(self) -> None:
        """Hear that calls were sent in one packet."""
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """Look no more; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        for child in self._children():
            if child.packets.last and child.flying:
                answers = child.packets.take_stale()
                if answers:
                    self._on_answers(child, answers)
                if child.packets.have_answers():
                    self.expect()
