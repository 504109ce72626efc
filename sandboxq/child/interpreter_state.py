"""What the interpreter and its modules keep: environment, hooks, settings, and what they mean."""

from __future__ import annotations

# What the standard library wraps: locale imports re for one function.
import _locale as _locale_module
import builtins
import contextlib
import gc
import os
import socket
import sys
import threading
import time
from functools import cache, partial
from typing import Any

from sandboxq.child import leftover_kinds, patches
from sandboxq.child.random_state import loaded
from sandboxq.child.seen import Seen, SeenList, changes_of
from sandboxq.child.state import SharedState, State

# What programs find everywhere. Names that a job adds stay: libraries have some of their own.
_BUILTINS = tuple(vars(builtins))
_read_builtins = patches.reader_of(vars(builtins), _BUILTINS)


def names_state() -> State:
    """Return what others' names mean: put back first, as what restores the rest uses them."""
    names = patches.names_there()
    return SharedState(leftover_kinds.SETTINGS, names.read, names.restore)


def interpreter_states() -> list[State]:
    """Return the rest of what is looked at after each job."""
    states = [
        State(leftover_kinds.ENVIRONMENT, _environment, _restore_environment, is_own=True),
        # By the variable that is put back before it.
        State(leftover_kinds.SETTINGS, _zone, _restore_zone, is_own=True),
        State(leftover_kinds.SETTINGS, _read_builtins, _restore_builtins),
        State(leftover_kinds.SETTINGS, _interpreter, _restore_interpreter, is_own=True),
        State(leftover_kinds.SETTINGS, _path, _restore_path, is_own=True),
        State(leftover_kinds.SETTINGS, _locale, _restore_locale, is_own=True),
        SharedState(leftover_kinds.SETTINGS, patches.hooks, patches.restore_hooks),
    ]
    asyncio = loaded("asyncio", "_get_running_loop")
    if asyncio and (loop := asyncio._get_running_loop()) is not None:  # noqa: SLF001 - it raises nothing
        states.append(
            State(leftover_kinds.SETTINGS, lambda: _of_loop(loop), partial(_restore_loop, loop))
        )
    if logging := loaded("logging", "disable"):
        states.append(State(leftover_kinds.SETTINGS, _silence, logging.disable, is_own=True))
    if loaded("warnings", "filters"):
        states.append(
            State(leftover_kinds.SETTINGS, _fatal_warnings, _restore_warnings, is_own=True)
        )
    if loaded("decimal", "getcontext"):
        states.append(State(leftover_kinds.SETTINGS, _decimal, _restore_decimal))
    if numpy := loaded("numpy", "geterr"):
        read = _reader_of_errors(numpy)
        states.append(State(leftover_kinds.SETTINGS, read, lambda was: numpy.seterr(**was)))
    return states


_variables: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001 - a tenth of the time of os.environb
_changes = changes_of(_variables)


def _mark_of_environment() -> object:
    """Return the number of its last change, or something new once there is another."""
    return _changes() if os.environ._data is _variables else object()  # type: ignore[attr-defined]  # noqa: SLF001 - as above


_environment = Seen(lambda: dict(os.environ._data), _mark_of_environment)  # type: ignore[attr-defined]  # noqa: SLF001 - as above


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
