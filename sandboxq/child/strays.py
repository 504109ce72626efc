"""Processes and threads that a job has left running."""

from __future__ import annotations

import gc
import os
import signal
import sys
import sysconfig
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sandboxq.sandbox import processes

if TYPE_CHECKING:
    from types import FrameType

# Killed processes are gone within milliseconds, except in the middle of a disk that hangs.
_KILL_SECONDS = 1.0
# Threads that end with their job do so in this time.
_THREAD_SECONDS = 0.05
# Idle threads of libraries are kept for the jobs to come, up to so many: pools, monitors, senders.
_MOST_THREADS = 32
_TICK = 0.0005
_LIBRARIES = tuple(
    {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_FROZEN = "<frozen "


class Processes:
    """What this process has started, besides what was there before the first job."""

    def __init__(self) -> None:
        """Keep what setup() has started."""
        there = processes.has_children()  # one system call, and nearly always all
        self._kept = set(processes.children_of(os.getpid())) if there else set()

    def are_there(self) -> bool:
        """Tell whether a job has started anything that was not waited for."""
        if self._kept:
            return not self._kept.issuperset(processes.children_of(os.getpid()))
        return processes.has_children()

    def end(self) -> int:
        """End all of them, and what they have started; return how many still ran.

        Raises: TimeoutError when some do not end.
        """
        _stop_pools(set(self._strays()))
        ended = self._kill_round(but=_helpers() - self._kept)
        if not _helpers() <= self._kept:
            _forget_helpers()
        until = time.monotonic() + _KILL_SECONDS
        while pids := self._strays():
            if time.monotonic() > until:
                raise TimeoutError
            ended |= self._kill_round(but=set())
            _reap(pids)
            time.sleep(_TICK)
        return len(ended)

    def _strays(self) -> list[int]:
        return [pid for pid in processes.children_of(os.getpid()) if pid not in self._kept]

    def _kill_round(self, but: set[int]) -> set[int]:
        """Kill what lives, and return it; helpers of the standard library go last."""
        strays = [pid for pid in self._strays() if pid not in but]
        tree = processes.living([pid for stray in strays for pid in (stray, *_below(stray))])
        processes.kill_all(tree)
        return set(tree)


def _below(pid: int) -> list[int]:
    return processes.descendants_of(pid)


def _reap(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _stop_pools(strays: set[int]) -> None:
    """Keep pools of multiprocessing from starting anew what is ended.

    Whoever uses one later is told that it does not run. Their own ``terminate()`` may wait for ever
    for a lock that an ended process has held.
    """
    module = sys.modules.get("multiprocessing.pool")
    if module is None:
        return
    for pool in gc.get_objects():
        if not issubclass(type(pool), module.Pool):
            continue
        with suppress(Exception):  # one of threads, or what a job has made of it
            if not strays.isdisjoint([worker.pid for worker in list(pool._pool)]):  # noqa: SLF001 - as below
                pool._state = pool._worker_handler._state = module.TERMINATE  # noqa: SLF001 - as below
                pool._change_notifier.put(None)  # noqa: SLF001 - as below
                pool._worker_handler.join(_THREAD_SECONDS)  # noqa: SLF001 - as below


def _helpers() -> set[int]:
    """Return the processes that multiprocessing keeps for all that use it."""
    tracker = _tracker()
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    pids = getattr(tracker, "_pid", None), getattr(server, "_forkserver_pid", None)
    return {pid for pid in pids if pid}


def _tracker() -> Any:
    module = sys.modules.get("multiprocessing.resource_tracker")
    return getattr(module, "_resource_tracker", None)


def _forget_helpers() -> None:
    """Have multiprocessing start its helpers anew when they are wanted; shared memory is freed."""
    with suppress(Exception):
        tracker = _tracker()
        if tracker is not None and tracker._fd is not None:  # noqa: SLF001 - as above
            _end_tracker(tracker)
    with suppress(Exception):
        server = sys.modules["multiprocessing.forkserver"]._forkserver  # noqa: SLF001 - as above
        if server._forkserver_pid is not None:  # noqa: SLF001 - as above
            os.close(server._forkserver_alive_fd)  # noqa: SLF001 - as above
            server._forkserver_pid = server._forkserver_alive_fd = None  # noqa: SLF001 - as above
            server._forkserver_address = None  # noqa: SLF001 - as above


def _end_tracker(tracker: Any) -> None:
    """Let it remove what was leaked, for a moment: it ends by itself at the end of its pipe."""
    os.close(tracker._fd)  # noqa: SLF001 - as above
    pid, tracker._fd, tracker._pid = tracker._pid, None, None  # noqa: SLF001 - as above
    until = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < until:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return
        time.sleep(_TICK)
    os.kill(pid, signal.SIGKILL)


class Threads:
    """The threads that Python knows of, besides those that were there before the first job."""

    def __init__(self) -> None:
        """Keep what setup() and the module have started."""
        self._kept = set(sys._current_frames())  # noqa: SLF001 - documented, for debuggers
        self._first = len(self._kept)
        self._count = threading.active_count()

    def are_there(self) -> bool:
        """Tell whether there are more than at the last look."""
        return threading.active_count() > self._count

    def settle(self) -> int:
        """Wait a moment for new threads to end; return how many must not stay.

        A timer is cancelled. A thread that runs code of the processor, or works on, must not stay;
        one that waits in a library's code may, as far as there are not too many.
        """
        for thread in threading.enumerate():
            if thread.ident not in self._kept and isinstance(thread, threading.Timer):
                thread.cancel()
        until = time.monotonic() + _THREAD_SECONDS
        used = {ident: _cpu_seconds(ident) for ident in self._strays()}
        while self._strays() and time.monotonic() < until:
            time.sleep(_TICK)
        strays = self._strays()
        bad = [ident for ident in strays if _is_at_work(ident, used.get(ident, 0.0))]
        if bad or len(self._kept) - self._first + len(strays) > _MOST_THREADS:
            return len(strays)
        self._kept |= set(strays)
        self._count = threading.active_count()
        return 0

    def _strays(self) -> list[int]:
        return [ident for ident in sys._current_frames() if ident not in self._kept]  # noqa: SLF001 - as above


def _is_at_work(ident: int, used: float) -> bool:
    frame = sys._current_frames().get(ident)  # noqa: SLF001 - as above
    return _cpu_seconds(ident) - used > _THREAD_SECONDS / 4 or _is_in_jobs_code(frame)


def _is_in_jobs_code(frame: FrameType | None) -> bool:
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_FROZEN, *_LIBRARIES)):
            return True
        frame = frame.f_back
    return False


def _cpu_seconds(ident: int) -> float:
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(ident))
    except OSError:
        return 0.0
