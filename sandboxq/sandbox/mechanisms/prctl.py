"""The process attributes of Linux that Python has no call for (man 2 prctl)."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

from sandboxq.errors import MechanismMissing

# From <linux/prctl.h>.
_SET_PDEATHSIG = 1
_SET_DUMPABLE = 4
_SET_CHILD_SUBREAPER = 36
_SET_NO_NEW_PRIVS = 38

_SCORE_OF_CHILDREN, _HIGHEST_SCORE = 500, 1000
_LINE = 64  # more than a number in a file of the kernel has

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Have the kernel send SIGKILL to this process when the thread that forked it ends.

    The parent may be gone already: compare ``os.getppid()`` afterwards.
    """
    _prctl(_SET_PDEATHSIG, signal.SIGKILL, "PR_SET_PDEATHSIG")


def outlive_parent() -> None:
    """Undo ``die_with_parent``."""
    _prctl(_SET_PDEATHSIG, 0, "PR_SET_PDEATHSIG")


def hide_memory() -> None:
    """Make environment and memory of this process unreadable to others of the same user."""
    _prctl(_SET_DUMPABLE, 0, "PR_SET_DUMPABLE")


def show_memory() -> None:
    """Undo ``hide_memory``: a child's memory holds nothing but its own job."""
    _prctl(_SET_DUMPABLE, 1, "PR_SET_DUMPABLE")


def be_ended_first(*, more: int = _SCORE_OF_CHILDREN) -> None:
    """Have the kernel, when it is out of memory, choose this process before its parent.

    A job can be tried again; the coordinator holds the locks of all. ``more`` is added to the score
    (man 5 proc_pid_oom_score_adj); 0 changes nothing.
    """
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    with suppress(OSError):
        score = min(_HIGHEST_SCORE, int(os.read(fd, _LINE)) + more)
        os.pwrite(fd, b"%d" % score, 0)
    os.close(fd)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_SET_CHILD_SUBREAPER, 1, "PR_SET_CHILD_SUBREAPER")


def refuse_new_privileges() -> None:
    """Give up set-uid programs and file capabilities, for this process and what it starts."""
    _prctl(_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")


def _prctl(option: int, value: int, name: str) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
        reason = os.strerror(ctypes.get_errno())
        message = f"the kernel refused prctl({name}): {reason}"
        raise MechanismMissing(message)
