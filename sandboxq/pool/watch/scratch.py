"""Watches what children keep in temporary files; a full disk stops everybody.

Looking takes time where there are many files: it is done in small steps.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from sandboxq.errors import JobScratchExceeded, SandboxViolation
from sandboxq.sandbox.descendants import descendants_of
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

# From the end of one round to the next, and between the steps of one.
_REST, _PAUSE = 0.5, 0.05
# A step of a round: the loop stands still for so long.
_STEP_SECONDS = 0.002
# So many rounds in a row a child of ``strict`` may have descriptors in a socket of its own.
_MOST_ROUNDS = 4
_MB = 1 << 20


class ScratchWatch:
    """Goes round the children of one pool."""

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
        until = time.perf_counter() + _STEP_SECONDS
        pause = _PAUSE
        while time.perf_counter() < until:
            if next(self._round, self) is self:  # the end
                self._round, pause = self._look_at_all(), _REST
                break
        self._timer = self._loop.call_later(pause, self.start)

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
        server = self._supervisor.server
        if server is None or child.arena.fd < 0:
            return
        folder = server.scratch_of(child.number)
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
