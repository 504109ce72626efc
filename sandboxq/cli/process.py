"""The process of a command: its event loop, its garbage collector, its part as process 1.

    PID 1, this file: reaps orphans, passes signals on ──fork──► the worker

Orphans of the whole container become children of PID 1, and stay zombies until it waits for them.
A worker that waited for any child would take the ends of its own from those who wait for them.

A program that is only a worker collects garbage rarely.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import TYPE_CHECKING, Any, TypeVar

from sandboxq.model.event_loop import loop_class

if TYPE_CHECKING:
    from collections.abc import Coroutine

_PASSED_ON = frozenset(
    {
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGCONT,
    }
)
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FROM_KERNEL = 0x80  # SI_KERNEL: a terminal's, which all processes in front of it have had
_FIRST = 1

T = TypeVar("T")
# A job's objects live until it is settled, and go without the collector. With Python's threshold of
# 700 they are looked at again and again on the way: 2 to 4 µs a job
# (docs/explanation/performance.md).
_YOUNG = 20_000
_MIDDLE = 20
_OLD = 20


def stay_behind_as_init() -> None:
    """Go on in a new process if this one is the first of its PID namespace.

    Call it while there is one thread. PID 1 ends with the exit code of the worker.
    """
    if os.getpid() != _FIRST:
        return
    awaited = _PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    worker = os.fork()
    if worker == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    status = None
    while status is None:
        received = signal.sigwaitinfo(awaited)
        if received.si_signo == signal.SIGCHLD:
            status = _reap(worker)
        elif received.si_code != _FROM_KERNEL:
            os.kill(worker, received.si_signo)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _reap(worker: int) -> int | None:
    """Wait for all that have ended; return the status of the worker if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        if pid == worker:
            found = status


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a fresh loop, and close that.

    Whoever started this process may have left it the signals that end it blocked.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    with asyncio.Runner(loop_factory=loop_class()) as runner:
        return runner.run(main)


def collect_rarely() -> None:
    """Leave imported objects out of all garbage collections, and collect the rest rarely.

    For a process of its own, as ``sandboxq run``: it changes the collector of the whole process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
