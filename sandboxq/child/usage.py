"""What this process has used until now: the answer to a call says it, the coordinator subtracts."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.frames import Usage

# Programs that a job starts and waits for are counted too; a job this short has started none.
_WORTH_A_LOOK = 1000
# A peak that rose by less is not worth starting anew for the next job.
_STEP_KB = 1024
_RESET_PEAK = b"5"  # man 5 proc_pid_clear_refs


class ThreadMeter:
    """Reads the CPU time of this thread; its memory is that of all and is not told."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self.latest: Usage = (0, 0, 0)

    def read(self, microseconds: int = 0) -> Usage:
        """Return the use so far: µs of CPU twice, and 0 bytes."""
        del microseconds
        own = resource.getrusage(resource.RUSAGE_THREAD)
        self.latest = int(own.ru_utime * 1e6), int(own.ru_stime * 1e6), 0
        return self.latest

    def start_peak_anew(self) -> None:
        """Do nothing: the peak is the coordinator's."""


class TurnMeter:
    """Reads once for all jobs that end in one turn of an event loop: they cannot be told apart."""

    def __init__(
        self, meter: Meter | ThreadMeter | TurnMeter, soon: Callable[[Callable[[], None]], object]
    ) -> None:
        """Read ``meter``; ``soon`` calls a function in the next turn."""
        self._meter = meter
        self._soon = soon
        self._usage: Usage | None = None

    def read(self, microseconds: int = _WORTH_A_LOOK) -> Usage:
        """Return the use at the first end of this turn; see Meter.read."""
        if self._usage is None:
            self._usage = self._meter.read(microseconds)
            self._soon(self._forget)
        return self._usage

    @property
    def latest(self) -> Usage:
        """See Meter."""
        return self._meter.latest

    def start_peak_anew(self) -> None:
        """See Meter."""
        self._meter.start_peak_anew()

    def _forget(self) -> None:
        self._usage = None


class Meter:
    """Reads CPU time, user and system, and the peak of resident memory.

    The kernel keeps one peak for the life of a process. Where it lets itself be told to start anew
    (``/proc/self/clear_refs``), a job that rose high does not hide how little the next one needs.
    """

    __slots__ = ("_fd", "_floor_kb", "_others", "_peak_kb", "latest")

    def __init__(self) -> None:
        """Begin with what the process has used already."""
        self._others = (0.0, 0.0)
        self._floor_kb = self._peak_kb = 0
        self.latest: Usage = (0, 0, 0)  # what was read last
        try:
            self._fd = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def read(self, microseconds: int = _WORTH_A_LOOK) -> Usage:
        """Return the use so far, after a job that took so long: µs of CPU twice, bytes."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        if microseconds >= _WORTH_A_LOOK:
            others = resource.getrusage(resource.RUSAGE_CHILDREN)
            self._others = others.ru_utime, others.ru_stime
        self._peak_kb = peak = own[2]  # by its place: ru_maxrss takes twice as long
        user, system = self._others
        self.latest = int((own[0] + user) * 1e6), int((own[1] + system) * 1e6), peak << 10
        return self.latest

    def start_peak_anew(self) -> None:
        """Forget the peak if the last job has raised it."""
        if self._peak_kb < self._floor_kb + _STEP_KB or self._fd < 0:
            return
        try:
            os.pwrite(self._fd, _RESET_PEAK, 0)
        except OSError:
            os.close(self._fd)  # forbidden here: the peak stays that of the process
            self._fd = -1
        self._floor_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def close(self) -> None:
        """Give back the descriptor; the peak stays that of the process from now on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
