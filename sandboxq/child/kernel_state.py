"""What the kernel keeps for this process: signals, timers, descriptors, limits, identity.

Read without functions within functions: to make one is to write to several pages of its module.
"""

from __future__ import annotations

# What the standard library wraps: signal makes members of enumerations of all that it returns,
# which takes forty times as long.
import _signal  # type: ignore[import-not-found]  # has no stubs
import contextlib
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any

from sandboxq.child import leftover_kinds, patches
from sandboxq.child.state import State, cannot

if TYPE_CHECKING:
    from collections.abc import Iterable

_ALL_SIGNALS = [int(number) for number in signal.valid_signals()]
# By eight: a list that grows leaves a piece behind of each size that it has had.
_SIGNALS = [_ALL_SIGNALS[at : at + 8] for at in range(0, len(_ALL_SIGNALS), 8)]
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_LIMITS = {number for name, number in vars(resource).items() if name.startswith("RLIMIT_")}
# Those that policies lower: see sandbox/mechanisms/rlimits.py.
_LOWERED = {
    resource.RLIMIT_CORE,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_NOFILE,
}
_STANDARD = (0, 1, 2)


def kernel_states() -> list[State]:
    """Return what is looked at after each job."""
    fill_standard()
    return [
        State(leftover_kinds.HANDLERS, _handlers, _restore_handlers, is_own=True),
        State(leftover_kinds.HANDLERS, _blocked, _restore_blocked, is_own=True),
        State(leftover_kinds.TIMERS, _timers, _stop_timers, is_own=True),
        State(leftover_kinds.TIMERS, _cancel_dump_later, cannot),
        # Others may remove it, as a deployment does with the release before.
        State(leftover_kinds.DIRECTORY, _directory, os.chdir, is_own=True),
        State(leftover_kinds.STREAMS, _streams, cannot, is_own=True),
        State(leftover_kinds.STREAMS, _waiting, _restore_waiting, is_own=True),
        State(leftover_kinds.LIMITS, _priority, _restore_priority, is_own=True),
        State(leftover_kinds.SETTINGS, _ids, cannot, is_own=True),
        State(leftover_kinds.HANDLERS, patches.wakeup_fd, signal.set_wakeup_fd, is_own=True),
        _Umask(),
    ]


def limit_states() -> list[State]:
    """Return the limits of resources, which are dearer to read, and raise an audit event."""
    return [_limits(_LIMITS - _LOWERED), _limits(_LOWERED, is_own=True)]


def _limits(numbers: Iterable[int], *, is_own: bool = False) -> State:
    there = tuple(numbers)

    def read() -> list[tuple[int, int]]:
        return list(map(resource.getrlimit, there))

    def restore(was: list[tuple[int, int]]) -> None:
        for number, limits in zip(there, was, strict=True):
            if resource.getrlimit(number) != limits:
                resource.setrlimit(number, limits)

    return State(leftover_kinds.LIMITS, read, restore, is_own=is_own)


def state_beneath(view: patches.KernelView) -> State:
    """Return what C code may have set past Python: dearer to read, and not put back."""
    return State(leftover_kinds.HANDLERS, view.read, cannot)


def _cancel_dump_later() -> None:
    """Call off a dump of stacks that a job has left. Interpreters of their own cannot load it."""
    faulthandler = sys.modules.get("faulthandler")
    if faulthandler is not None:
        faulthandler.cancel_dump_traceback_later()


# ── signals and timers ──


def _handlers() -> list[list[Any]]:
    return list(map(_handlers_of, _SIGNALS))


def _handlers_of(eight: list[int]) -> list[Any]:
    return list(map(_signal.getsignal, eight))


def _restore_handlers(was: list[list[Any]]) -> None:
    for eight, handlers in zip(_SIGNALS, was, strict=True):
        for number, handler in zip(eight, handlers, strict=True):
            if _signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _blocked() -> set[Any]:
    return set(_signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def _restore_blocked(was: set[Any]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, was)


def _timers() -> list[bool]:
    return list(map(any, map(signal.getitimer, _TIMERS)))


def _stop_timers(was: list[bool]) -> None:
    for timer, did_run in zip(_TIMERS, was, strict=True):
        if not did_run:
            signal.setitimer(timer, 0)


# ── files and limits ──


def _directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - pathlib is not worth its import here
    except OSError:
        return None  # it was removed


class _Umask(State):
    """The umask, which is only read by setting it: a look puts it back in the same call."""

    __slots__ = ()

    def __init__(self) -> None:
        """Remember how it is now."""
        super().__init__(leftover_kinds.UMASK, _umask, os.umask, is_own=True)

    def is_changed(self) -> bool:
        """Put it back; tell whether it was not what it was."""
        return bool(os.umask(self.was) != self.was)


def _umask() -> int:
    was = os.umask(0o022)
    os.umask(was)
    return was


def fill_standard() -> None:
    """Have a descriptor 0 to 2 that setup() has closed lead nowhere: else the next file would."""
    for fd in _STANDARD:
        try:
            os.fstat(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - its signature


def _streams() -> list[tuple[int, int]]:
    """Return what the standard descriptors lead to."""
    found = []
    for fd in _STANDARD:
        try:
            facts = os.fstat(fd)
        except OSError:
            found.append((0, 0))
        else:
            found.append((facts.st_dev, facts.st_ino))
    return found


def _waiting() -> dict[int, bool]:
    """Return whether writing to the standard descriptors waits: else print() fails at times."""
    found = {}
    for fd in _STANDARD:
        with contextlib.suppress(OSError):  # it was closed, perhaps by setup()
            found[fd] = os.get_blocking(fd)
    return found


def _restore_waiting(was: dict[int, bool]) -> None:
    for fd, is_waiting in was.items():
        os.set_blocking(fd, is_waiting)


def _priority() -> tuple[int, set[int], int]:
    return os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0), os.sched_getscheduler(0)


def _restore_priority(was: tuple[int, set[int], int]) -> None:
    priority, cores, scheduler = was
    os.sched_setaffinity(0, cores)
    if os.sched_getscheduler(0) != scheduler:
        os.sched_setscheduler(0, scheduler, os.sched_param(0))
    if os.getpriority(os.PRIO_PROCESS, 0) != priority:
        os.setpriority(os.PRIO_PROCESS, 0, priority)


def _ids() -> tuple[Any, ...]:
    return os.getresuid(), os.getresgid()
