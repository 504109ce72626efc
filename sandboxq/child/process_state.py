"""What belongs to the whole process and outlives a job: looked at after jobs, and put back.

Read in some microseconds all together; each knows how it is put back, or that it cannot be.
"""

from __future__ import annotations

# What the standard library wraps: locale imports re for one function, and signal makes members of
# enumerations of all that it returns, which takes forty times as long.
import _locale as _locale_module
import _signal  # type: ignore[import-not-found]  # has no stubs
import builtins
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from sandboxq.child import leftover_kinds, patches
from sandboxq.child.random_state import loaded
from sandboxq.child.seen import Seen, SeenList

if TYPE_CHECKING:
    from collections.abc import Callable

_ALL_SIGNALS = [int(number) for number in signal.valid_signals()]
# By eight: a list that grows leaves a piece behind of each size that it has had.
_SIGNALS = [_ALL_SIGNALS[at : at + 8] for at in range(0, len(_ALL_SIGNALS), 8)]
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_LIMITS = [number for name, number in vars(resource).items() if name.startswith("RLIMIT_")]
_STANDARD = (0, 1, 2)
# What programs find everywhere. Names that a job adds stay: libraries have some of their own.
_BUILTINS = tuple(vars(builtins))
_read_builtins = patches.reader_of(vars(builtins), _BUILTINS)


class CannotRestore(Exception):
    """What a job has changed stays changed: its child is to leave."""


class State:
    """One thing: how to read it, and how to make it again what it was."""

    __slots__ = ("_read", "_restore", "kind", "was")

    def __init__(
        self, kind: int, read: Callable[[], Any], restore: Callable[[Any], object]
    ) -> None:
        """Remember how it is now; ``restore`` may raise anything when it cannot."""
        self.kind = kind
        self._read = read
        self._restore = restore
        self.was = read()

    def is_changed(self) -> bool:
        """Tell whether it is not what it was."""
        now = self._read()
        return now is not self.was and bool(now != self.was)

    def restore(self) -> None:
        """Put it back. Raises: CannotRestore."""
        try:
            self._restore(self.was)
        except Exception as error:
            raise CannotRestore from error
        if self.is_changed():
            raise CannotRestore


class SharedState(State):
    """One that libraries change too: what is theirs stays, and is what it was from then on."""

    __slots__ = ()

    def is_changed(self) -> bool:
        """Put back what is not a library's; tell whether there was any."""
        now = self._read()
        if now is self.was or now == self.was:
            return False
        self._restore(self.was)
        self.was = self._read()
        return bool(self.was != now)

    def restore(self) -> None:
        """Do nothing more."""


def states_now() -> list[State]:
    """Return everything that is looked at after jobs, as it is now."""
    _fill_standard()
    names = patches.names_there()
    states = [
        SharedState(leftover_kinds.SETTINGS, names.read, names.restore),  # what is below uses them
        State(leftover_kinds.HANDLERS, _handlers, _restore_handlers),
        State(leftover_kinds.HANDLERS, _blocked, _restore_blocked),
        State(leftover_kinds.TIMERS, _timers, _stop_timers),
        State(leftover_kinds.TIMERS, _cancel_dump_later, _cannot),
        State(leftover_kinds.DIRECTORY, _directory, os.chdir),
        State(leftover_kinds.ENVIRONMENT, _environment, _restore_environment),
        State(
            leftover_kinds.SETTINGS, _zone, _restore_zone
        ),  # by the variable that is put back before it
        State(leftover_kinds.STREAMS, _streams, _cannot),
        State(leftover_kinds.STREAMS, _waiting, _restore_waiting),
        State(leftover_kinds.LIMITS, _priority, _restore_priority),
        State(leftover_kinds.SETTINGS, _read_builtins, _restore_builtins),
        State(leftover_kinds.SETTINGS, _ids, _cannot),
        State(leftover_kinds.SETTINGS, _interpreter, _restore_interpreter),
        State(leftover_kinds.SETTINGS, _path, _restore_path),
        State(leftover_kinds.SETTINGS, _locale, _restore_locale),
        State(leftover_kinds.HANDLERS, patches.wakeup_fd, signal.set_wakeup_fd),
        SharedState(leftover_kinds.SETTINGS, patches.hooks, patches.restore_hooks),
        _umask(),
    ]
    asyncio = loaded("asyncio", "_get_running_loop")
    if asyncio and (loop := asyncio._get_running_loop()) is not None:  # noqa: SLF001 - it raises nothing
        states.append(
            State(leftover_kinds.SETTINGS, lambda: _of_loop(loop), partial(_restore_loop, loop))
        )
    if logging := loaded("logging", "disable"):
        states.append(State(leftover_kinds.SETTINGS, _silence, logging.disable))
    if loaded("warnings", "filters"):
        states.append(State(leftover_kinds.SETTINGS, _fatal_warnings, _restore_warnings))
    if loaded("decimal", "getcontext"):
        states.append(State(leftover_kinds.SETTINGS, _decimal, _restore_decimal))
    if numpy := loaded("numpy", "geterr"):
        read = _reader_of_errors(numpy)
        states.append(State(leftover_kinds.SETTINGS, read, lambda was: numpy.seterr(**was)))
    return states


def kernel_now(view: patches.KernelView) -> State:
    """Return what C code may have set past Python: dearer to read, and not put back."""
    return State(leftover_kinds.HANDLERS, view.read, _cannot)


def limits_now() -> State:
    """Return the limits of resources, which are dearer to read, and raise an audit event."""
    return State(leftover_kinds.LIMITS, _limits, _restore_limits)


def _cancel_dump_later() -> None:
    """Call off a dump of stacks that a job has left. Interpreters of their own cannot load it."""
    faulthandler = sys.modules.get("faulthandler")
    if faulthandler is not None:
        faulthandler.cancel_dump_traceback_later()


def _cannot(was: Any) -> None:
    del was
    raise CannotRestore


# ── signals and timers ──


def _handlers() -> list[list[Any]]:
    return [list(map(_signal.getsignal, eight)) for eight in _SIGNALS]


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
    return [any(signal.getitimer(timer)) for timer in _TIMERS]


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


def _umask() -> State:
    """Return the umask, which is only read by setting it."""
    was = os.umask(0o022)
    os.umask(was)
    return State(leftover_kinds.UMASK, lambda: os.umask(was), os.umask)


def _fill_standard() -> None:
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


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(number) for number in _LIMITS]


def _restore_limits(was: list[tuple[int, int]]) -> None:
    for number, limits in zip(_LIMITS, was, strict=True):
        if resource.getrlimit(number) != limits:
            resource.setrlimit(number, limits)


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


# ── the interpreter ──


def _environment() -> dict[bytes, bytes]:
    return dict(os.environ._data)  # type: ignore[attr-defined]  # noqa: SLF001 - a tenth of the time of dict(os.environb)


def _restore_environment(was: dict[bytes, bytes]) -> None:
    for name in [name for name in os.environb if name not in was]:
        del os.environb[name]
    for name, value in was.items():
        if os.environb.get(name) != value:
            os.environb[name] = value


def _interpreter() -> tuple[Any, ...]:
    return (
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        socket.getdefaulttimeout(),
        gc.isenabled(),
        gc.get_threshold(),
        (sys.gettrace(), sys.getprofile()),
        (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.breakpointhook),
        sys.stdin,
        _numbers(),
        (threading.gettrace(), threading.getprofile()),
        tuple(sys.argv),
        (tuple(sys.get_asyncgen_hooks()), sys.get_coroutine_origin_tracking_depth()),
    )


def _numbers() -> tuple[int, ...]:
    stack_size = threading.stack_size()
    return sys.get_int_max_str_digits(), gc.get_debug(), sys.getdlopenflags(), stack_size


def _restore_interpreter(was: tuple[Any, ...]) -> None:
    recursion, interval, timeout, is_collecting, threshold, tracing, hooks, stdin, *rest = was
    sys.setrecursionlimit(recursion)
    sys.setswitchinterval(interval)
    socket.setdefaulttimeout(timeout)
    (gc.enable if is_collecting else gc.disable)()
    gc.set_threshold(*threshold)
    sys.settrace(tracing[0])
    sys.setprofile(tracing[1])
    sys.excepthook, sys.unraisablehook, threading.excepthook, sys.breakpointhook = hooks
    sys.stdin = stdin
    _restore_rest(*rest)


def _restore_rest(
    numbers: tuple[int, ...],
    tracing: tuple[Any, Any],
    arguments: tuple[str, ...],
    coroutines: tuple[Any, int],
) -> None:
    digits, debug, flags, stack_size = numbers
    sys.set_int_max_str_digits(digits)
    gc.set_debug(debug)
    sys.setdlopenflags(flags)
    threading.stack_size(stack_size)
    threading.settrace(tracing[0])
    threading.setprofile(tracing[1])
    sys.argv[:] = arguments
    generator_hooks, depth = coroutines
    sys.set_asyncgen_hooks(*generator_hooks)
    sys.set_coroutine_origin_tracking_depth(depth)


def _zone() -> tuple[Any, ...]:
    return time.tzname, time.timezone, time.altzone


def _restore_zone(_: tuple[Any, ...]) -> None:
    time.tzset()


def _restore_builtins(was: tuple[Any, ...]) -> None:
    vars(builtins).update(zip(_BUILTINS, was, strict=True))


def _of_loop(loop: Any) -> tuple[Any, ...]:
    return loop.get_task_factory(), loop.get_exception_handler(), loop.get_debug()


def _restore_loop(loop: Any, was: tuple[Any, ...]) -> None:
    factory, handler, is_debugging = was
    loop.set_task_factory(factory)
    loop.set_exception_handler(handler)
    loop.set_debug(is_debugging)


def _silence() -> int:
    """Return up to which level nothing is logged."""
    return int(sys.modules["logging"].root.manager.disable)


_rules = SeenList(lambda: sys.modules["warnings"].filters)
# For which warnings code fails; other filters stay, as libraries add theirs.
_fatal_warnings = Seen(lambda: [rule for rule in _rules() if rule[0] == "error"], _rules)


def _restore_warnings(was: list[Any]) -> None:
    filters = sys.modules["warnings"].filters
    filters[:] = [rule for rule in filters if rule[0] != "error" or rule in was]


_path = SeenList(lambda: sys.path)


def _restore_path(was: list[str]) -> None:
    sys.path[:] = was


def _locale() -> str:
    return _locale_module.setlocale(_locale_module.LC_ALL)


def _restore_locale(was: str) -> None:
    _locale_module.setlocale(_locale_module.LC_ALL, was)


@cache
def _reader_of_errors(numpy: Any) -> Seen:
    """Return what tells what numpy does about a division by zero, and the like."""
    core = getattr(getattr(numpy, "_core", None), "umath", None)
    variable = getattr(core, "_extobj_contextvar", None)  # since numpy 2 it is kept there
    return Seen(numpy.geterr, object if variable is None else variable.get)


def _decimal() -> tuple[Any, ...]:
    context = sys.modules["decimal"].getcontext()
    return (
        context.prec,
        context.rounding,
        (context.Emin, context.Emax, context.capitals, context.clamp),
        dict(context.traps),
    )


def _restore_decimal(was: tuple[Any, ...]) -> None:
    context = sys.modules["decimal"].getcontext()
    context.prec, context.rounding, rest, traps = was
    context.Emin, context.Emax, context.capitals, context.clamp = rest
    with contextlib.suppress(AttributeError):
        context.traps.update(traps)
