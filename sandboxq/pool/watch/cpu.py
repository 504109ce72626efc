"""Watches the CPU time of running calls from outside; calls of microseconds are never looked at.

A call's budget begins at the first look that finds it running, at most one interval late.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sandboxq.errors import JobCpuExceeded
from sandboxq.sandbox.descendants import descendants_of

if TYPE_CHECKING:
    import asyncio

    from sandboxq.pool.children.child import Child
    from sandboxq.pool.pool import Pool

_INTERVAL = 0.1
_TICK = os.sysconf("SC_CLK_TCK")


class CpuWatch:
    """Ends calls that have used up their budget: told first, killed after the call's grace."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool, limit: float) -> None:
        """Grant each call of ``pool`` so many seconds of CPU, with all that it starts."""
        self._loop = loop
        self._pool = pool
        self._limit = limit
        self._seen: dict[int, tuple[int, float]] = {}  # by child: the call, and CPU at first sight
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and again and again."""
        before, self._seen = self._seen, {}
        for child in self._pool.supervisor.children:
            if child.pid and child.doom is None:
                self._look(child, before)
        self._timer = self._loop.call_later(_INTERVAL, self.start)

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
            self._pool.end_soon(child, call, error)


def cpu_of_tree(pid: int) -> float:
    """Return the CPU seconds of a process, all that lives below it and all that it waited for."""
    return sum(_cpu_of(each) for each in (pid, *descendants_of(pid)))


def _cpu_of(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:  # noqa: PTH123 - ten times a second
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return sum(int(ticks) for ticks in fields[11:15]) / _TICK
