"""Watches from outside what a child and all that it has started use: memory, and processes.

The kernel's limits are each process's own, and shared mappings escape them.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from sandboxq.errors import JobMemoryExceeded, JobProcessesExceeded
from sandboxq.sandbox.descendants import children_of, descendants_of, living
from sandboxq.sandbox.kernel_files import read_file

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sandboxq.errors import ChildError
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.children.supervisor import Supervisor
    from sandboxq.sandbox.policy import Policy

# A job that fills memory at 1 GB/s is seen 100 MB above its limit.
_INTERVAL = 0.1
# Libraries are mapped from files: they are resident, but are nobody's appetite.
_LIBRARIES = 64 << 20
# A child adopts orphans, and learns of their end only after its job: processes that have ended and
# are still listed are no appetite either, up to so many for each that may live.
_ENDED = 4
# To weigh a process among those that it shares memory with takes up to a millisecond: many of them
# are weighed in several looks.
_WEIGHING_SECONDS = 0.005

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MB = 1 << 20


class TreeWatch:
    """Looks at each child ten times a second."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        supervisor: Supervisor,
        on_exceeded: Callable[[Child, ChildError], None],
        *,
        policy: Policy,
    ) -> None:
        """Look at the children of ``supervisor``; call ``on_exceeded`` with a child and its error.

        What a job was sent in its arena, and a result there, do not count.
        """
        self._loop = loop
        self._supervisor = supervisor
        self._on_exceeded = on_exceeded
        self._policy = policy
        self._weighings: dict[int, _Weighing] = {}  # by child
        self._ownerless: set[int] = set()  # at the last look
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and again and again."""
        if self._policy.name != "none" and self._policy.may_fork:
            self._sweep()
        for child in self._supervisor.children:
            child.arena.trim()
            if child.memory is None or not child.pid or child.kill_reason is not None:
                self._weighings.pop(child.number, None)
                continue
            error = self._look(child, child.memory)
            if error is not None:
                self._on_exceeded(child, error)
        self._timer = self._loop.call_later(_INTERVAL, self.start)

    def stop(self) -> None:
        """Stop looking; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, child: Child, memory: int) -> ChildError | None:
        """Return what a child has too much of, if anything."""
        started: list[int] = []
        if self._policy.may_fork:
            most = self._policy.processes
            started = descendants_of(child.pid, most=_ENDED * most)
            if len(started) > most:
                started = living(started)
            if len(started) > most:
                return _too_many(child, most, len(started))
        limit = memory + _LIBRARIES
        resident = self._resident(child, started, limit)
        if resident > limit:
            resident -= child.arena.resident()
        resident += child.arena.hidden()
        if resident <= limit:
            resident = self._held(child, limit + child.arena.resident())
        return _too_large(child, memory, resident) if resident > limit else None

    def _held(self, child: Child, beyond: int) -> int:
        """Return what a child has also where no process shows it: files in memory, pipes, sockets.

        Where that is no more than ``beyond`` it may be 0. Without a control group: files alone.
        """
        server = self._supervisor.server
        group = server.group_of(child.pid) if server is not None else None
        if group is None:
            return private_bytes(child.pid) + child.files_in_memory
        held = group.held(beyond)
        return held if held > beyond else 0

    def _resident(self, child: Child, started: list[int], limit: int) -> int:
        """Return the bytes of a tree; precisely, and perhaps later, where they may be too many."""
        pids = [child.pid, *started]
        resident = sum(map(resident_bytes, pids))
        if resident <= limit or not started:
            self._weighings.pop(child.number, None)
            return resident
        weighing = self._weighings.setdefault(child.number, _Weighing(pids))
        if weighing.go_on():
            del self._weighings[child.number]
        return weighing.total

    def _sweep(self) -> None:
        """Have what has no child above it ended: a job has undone what keeps its orphans below."""
        server = self._supervisor.server
        if server is None:
            return
        owners = {child.pid for child in self._supervisor.children}
        ownerless = {pid for pid in children_of(server.pid) if pid not in owners}
        if ownerless - self._ownerless:  # what outlives a sweep is the server's own: its spare
            server.sweep()
        self._ownerless = ownerless


class _Weighing:
    """The sum of what each of some processes has of the memory that they share."""

    def __init__(self, pids: list[int]) -> None:
        self.total = 0
        self._left = pids

    def go_on(self) -> bool:
        """Weigh a few more; tell whether that was all."""
        until = time.perf_counter() + _WEIGHING_SECONDS
        while self._left and time.perf_counter() < until:
            self.total += proportional_bytes(self._left.pop())
        return not self._left


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes, 0 when it is gone."""
    fields = read_file(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if fields else 0


def private_bytes(pid: int) -> int:
    """Return the resident memory of a process without mapped files in bytes, 0 when it is gone."""
    fields = read_file(f"/proc/{pid}/statm").split()
    return (int(fields[1]) - int(fields[2])) * _PAGE if fields else 0


def proportional_bytes(pid: int) -> int:
    """Return a process's share of the memory that it has with others (PSS), 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:  # noqa: PTH123 - as above
            line = next(line for line in rollup if line.startswith(b"Pss:"))
    except PermissionError:
        return resident_bytes(pid)
    except (OSError, StopIteration):
        return 0
    return int(line.split()[1]) * 1024


def _too_large(child: Child, memory: int, resident: int) -> JobMemoryExceeded:
    error = JobMemoryExceeded(
        f"the job used more memory than its policy grants: limit {memory // _MB} MB, "
        f"observed {resident // _MB} MB, child {child.pid}"
    )
    error.facts = {"pid": str(child.pid), "limit": str(memory), "peak": str(resident)}
    return error


def _too_many(child: Child, most: int, count: int) -> JobProcessesExceeded:
    error = JobProcessesExceeded(
        f"the job started more processes than its policy grants: limit {most}, "
        f"observed {count} at once, child {child.pid}"
    )
    error.facts = {"pid": str(child.pid), "limit": str(most), "peak": str(count)}
    return error
