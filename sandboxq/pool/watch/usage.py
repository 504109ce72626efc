"""Watches from outside what children use: memory, processes, temporary files.

The kernel's limits hold for each process alone, and do not count shared mappings. A full disk would
stop all jobs. Counting takes time where there are many files, and is done in small steps.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from sandboxq.errors import (
    JobMemoryExceeded,
    JobProcessesExceeded,
    JobScratchExceeded,
    SandboxViolation,
)
from sandboxq.sandbox.processes import children_of, descendants_of, living, read_file
from sandboxq.sandbox.scratch import (
    devices_in_memory,
    holds_passed_files,
    sizes_below,
    unlinked_sizes,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from sandboxq.errors import ChildError
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.children.supervisor import Supervisor
    from sandboxq.sandbox.policy import Policy

# A job that fills memory at 1 GB/s is seen 100 MB above its limit.
_INTERVAL = 0.1
# Bytes of libraries: mapped from files and resident, but not counted as used.
_LIBRARIES = 64 << 20
# A child adopts orphans, and reaps them only after its job: processes that have ended and are still
# listed do not count either, up to so many for each that may live.
_ENDED = 4
# Seconds for one step: reading a process's share of memory takes up to a millisecond each.
_WEIGHING_SECONDS = 0.005

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MB = 1 << 20

# From the end of one round to the next, and between the steps of one.
_REST, _PAUSE = 0.5, 0.05
# A step of a round: the loop stands still for so long.
_STEP_SECONDS = 0.002
# So many rounds in a row a child of ``strict`` may have descriptors in a socket of its own.
_MOST_ROUNDS = 4


class TreeWatch:
    """Checks each child ten times a second."""

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
        self._timer = self._loop.call_later(_INTERVAL, self.start)
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

    def stop(self) -> None:
        """Stop looking; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, child: Child, memory: int) -> ChildError | None:
        """Return the error of a child that uses too much, if it does."""
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
        """Return bytes of a child that no process shows: files in memory, pipes, sockets.

        Where that is no more than ``beyond`` it may be 0. Without a control group: files alone.
        """
        group = child.source.group_of(child.pid) if child.source is not None else None
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
        """End processes without a child above them: a job has undone the adoption of orphans."""
        owners = {child.pid for child in self._supervisor.children}
        found = set()
        for server in self._supervisor.servers:
            ownerless = {pid for pid in children_of(server.pid) if pid not in owners}
            if ownerless - self._ownerless:  # what outlives a sweep is the server's own: its spare
                server.sweep()
            found |= ownerless
        self._ownerless = found


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


class ScratchWatch:
    """Counts the temporary files of each child of one pool in turn."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        supervisor: Supervisor,
        on_exceeded: Callable[[Child, ChildError], None],
        policy: Policy,
    ) -> None:
        """Call ``on_exceeded`` with a child and its error."""
        self._loop = loop
        self._supervisor = supervisor
        self._on_exceeded = on_exceeded
        self._policy = policy
        self._round: Iterator[None] = iter(())
        self._in_memory = devices_in_memory()
        self._hiding: dict[int, int] = {}  # by the number of a child: rounds in a row
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look for a while, and again and again."""
        self._timer = self._loop.call_later(_PAUSE, self.start)
        until = time.perf_counter() + _STEP_SECONDS
        while time.perf_counter() < until:
            if next(self._round, self) is self:  # the end
                self._round = self._look_at_all()
                self._timer.cancel()
                self._timer = self._loop.call_later(_REST, self.start)
                break

    def stop(self) -> None:
        """Stop looking; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._round = iter(())  # closes what it had open

    def _look_at_all(self) -> Iterator[None]:
        for child in self._supervisor.children:
            if child.pid and child.kill_reason is None:
                yield from self._look(child)

    def _look(self, child: Child) -> Iterator[None]:
        used = in_memory = 0
        for device, size in self._sizes(child):
            used += size
            in_memory += size if device in self._in_memory else 0
            if used > self._policy.scratch:
                self._on_exceeded(child, self._too_much(child, used))
                return
            yield
        child.files_in_memory = in_memory
        if self._policy.name == "strict":
            self._look_into_sockets(child)

    def _look_into_sockets(self, child: Child) -> None:
        """End a child that keeps files where no process shows them."""
        rounds = 0
        if any(map(holds_passed_files, self._pids(child))):
            rounds = self._hiding.pop(child.number, 0) + 1
            if rounds < _MOST_ROUNDS:
                self._hiding[child.number] = rounds
                return
        self._hiding.pop(child.number, None)
        if rounds:
            self._on_exceeded(child, _hidden(child))

    def _sizes(self, child: Child) -> Iterator[tuple[int, int]]:
        """Yield the device and the bytes of each temporary file."""
        if child.source is None or child.arena.fd < 0:
            return
        folder = child.source.scratch_of(child.number)
        device = _device_of(folder)
        yield from ((device, size) for size in sizes_below(folder))
        seen = set()
        if child.arena.fd >= 0:
            facts = os.fstat(child.arena.fd)
            seen.add((facts.st_dev, facts.st_ino))
        for pid in self._pids(child):
            yield from unlinked_sizes(pid, seen)

    def _pids(self, child: Child) -> list[int]:
        below: list[int] = []
        if self._policy.may_fork:
            below = descendants_of(child.pid, most=self._policy.processes)
        return [child.pid, *below]

    def _too_much(self, child: Child, used: int) -> JobScratchExceeded:
        granted = self._policy.scratch
        error = JobScratchExceeded(
            f"the job keeps more temporary files than its policy grants: limit "
            f"{granted / _MB:.3g} MB, observed {used / _MB:.3g} MB, child {child.pid}"
        )
        error.facts = {"pid": str(child.pid), "limit": str(granted), "peak": str(used)}
        return error


def _hidden(child: Child) -> SandboxViolation:
    return SandboxViolation(
        f"child {child.pid} keeps open files in a socket, sent and not received, where their size "
        f"cannot be seen; have them received, or closed"
    )


def _device_of(path: str) -> int:
    try:
        return os.stat(path).st_dev  # noqa: PTH116 - twice a second
    except OSError:
        return 0
