"""What a forked child does before it looks at a job."""

from __future__ import annotations

# What the standard library wraps, to make members of enumerations of what it takes and returns.
import _signal  # type: ignore[import-not-found]  # has no stubs
import contextlib
import gc
import os
import signal
from typing import TYPE_CHECKING

from sandboxq.child import random_state
from sandboxq.sandbox.mechanisms import process

if TYPE_CHECKING:
    from types import FrameType

_us = 0


def be_born(parent: int) -> None:
    """Leave the zygote's session and handlers, and die when it does.

    All that this process starts stays below it, however deep, and whoever ends in between: whose a
    process is, is the kernel's word and no job's.
    """
    process.die_with_parent()
    if os.getppid() != parent:
        os._exit(0)  # it died before the line above
    process.adopt_orphans()
    process.be_ended_first()
    os.setsid()
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    for number in (_signal.SIGINT, _signal.SIGTERM):
        _signal.signal(number, _ignore)
    global _us  # noqa: PLW0603 - set once, at the start
    _us = os.getpid()
    random_state.reseed()
    gc.enable()


def take_place(*, stdout: int, stderr: int) -> None:
    """Take the output pipes, and be a child like any other from now on."""
    process.show_memory()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.close(stdout)
    os.close(stderr)
    _give_way()


def _give_way() -> None:
    """Take no core from whoever is at work when a call comes: the coordinator, or Redis.

    Its share of the cores stays the same, but an ordinary process that is woken is put in the
    place of the one that woke it. With jobs of microseconds that is a switch there and back for
    every second job (sched(7)).
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # a filter around all of us may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _ignore(number: int, frame: FrameType | None) -> None:
    """Leave ending to the coordinator; systemd and Docker signal everything that they see.

    A handler and not SIG_IGN: programs that the job starts would inherit that, and its own forks
    must still be ended by ``terminate()``.
    """
    del frame
    if os.getpid() != _us:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
