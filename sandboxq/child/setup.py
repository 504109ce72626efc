"""What a forked child does before it looks at a job, and the practice start of a spare.

A start for practice: what it writes to is this process's own before anybody waits for it.

After a fork each page is copied when it is first written to, and objects are written to when they
are merely used (their counts of references). A start meets some two hundred such pages.
"""

from __future__ import annotations

# What the standard library wraps, to make members of enumerations of what it takes and returns.
import _signal  # type: ignore[import-not-found]  # has no stubs
import contextlib
import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from sandboxq.child import output, random_state, stacks
from sandboxq.child.activity_page import ActivityPage
from sandboxq.child.arena import ChildArena
from sandboxq.child.cancels import Cancels
from sandboxq.child.frames import READY
from sandboxq.child.interrupts import Interrupts
from sandboxq.child.leftovers import Leftovers
from sandboxq.child.link import Link
from sandboxq.child.usage import Meter
from sandboxq.sandbox.mechanisms import process

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_us = 0
PRACTICES = 10  # the eighth call of a function is the first to be noted
_ORDER = b"{}"
_OF_LOGGING = "_after_at_fork_child_reinit_locks"
_MUCH = 1 << 40
_OF_NO_FILE = -1  # pages that nobody shares (mmap(2), MAP_ANONYMOUS)


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


def practise() -> None:
    """Do in the zygote what each child does; PRACTICES times it is no news to CPython.

    It notes in the code, and in its cache of methods, what it finds at each place (PEP 659). A
    child that does what was noted before the fork writes to fewer pages.
    """
    process.adopt_orphans()
    process.be_ended_first(more=0)
    _renew_locks()
    random_state.reseed()
    rehearse(_look)


def _renew_locks() -> None:
    """Do what Python does after a fork, where that changes nothing: in a process of one thread."""
    if len(sys._current_frames()) == 1:  # noqa: SLF001 - documented, for debuggers
        for module, name in (("threading", "_after_fork"), ("logging", _OF_LOGGING)):
            with suppress(Exception):  # named otherwise: then it is not practised
                getattr(sys.modules[module], name)()


def _look(leftovers: Leftovers) -> None:
    leftovers.look()


def rehearse(last: Callable[[Leftovers], object] = id) -> None:
    """Make what a child makes, say what it says, to nobody, and leave nothing of it.

    ``last`` is called with who looks after jobs. Plainly, and with as little as is possible that a
    start has not: what is met here is memory of each child.
    """
    with suppress(OSError):  # out of descriptors: the start will tell
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with near, far:
            near.send(_ORDER)
            socket.recv_fds(far, 1 << 16, 1)
            mark, meter = ActivityPage(_OF_NO_FILE), Meter()
            link = Link(near, mark, Cancels(-1), far, ChildArena(-1), meter=meter)
            stacks.listen(near.fileno())
            stacks.stop_listening()
            output.stand_ins(output.Capture(link))
            Interrupts(link.cancels)
            link.send(READY, 0, usage=meter.read())
            # What runs already is none of its business.
            leftovers = Leftovers(link, memory=_MUCH, scratch="", may_leave_processes=True)
            last(leftovers)
            leftovers.close()
            meter.close()
            mark.close()
