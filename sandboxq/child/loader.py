"""From the words ``processors/resize.py`` or ``package.module:function`` to what they name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from contextvars import ContextVar
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.child import random_state, sources
from sandboxq.child.failure import stack_of
from sandboxq.child.tasks import Clash, is_task, names_by_queue, runner_of, tasks_in, told

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.tasks import Runs

DEFAULT_ATTRIBUTE = "process"
# As in inspect, which costs 8 ms to import.
_CO_VARARGS = 0x04
_CO_COROUTINE = 0x80
_CO_GENERATORS = 0x20 | 0x200


class Processor(NamedTuple):
    """The user's function and what belongs to it."""

    function: Callable[..., Any]
    setup: Callable[[], Any] | None
    teardown: Callable[[], Any] | None
    is_async: bool


class LoadFailed(Exception):
    """The processor cannot be used: a reason in one line, and the trace of the user's frames."""

    def __init__(self, reason: str, trace: str = "") -> None:
        """Keep both texts."""
        super().__init__(reason)
        self.reason = reason
        self.trace = trace


# For what a processor's module loads in its turn, as those of integrations do.
_queue_served: ContextVar[str] = ContextVar("sandboxq_queue_served", default="")


def load_processor(spec: str, queue: str = "") -> Processor:
    """Import the processor: a function, or the tasks of a module for ``queue`` (``prefix:queue``).

    Without ``queue`` it is that of the processor which is being loaded.

    Raises:
        LoadFailed: missing, does not import, has no such function.
    """
    queue = queue or _queue_served.get()
    token = _queue_served.set(queue)
    try:
        return _loaded(spec, queue)
    finally:
        _queue_served.reset(token)


def _loaded(spec: str, queue: str) -> Processor:
    place, _, attribute = spec.partition(":")
    module = _module_at(place)
    found = _tasks_of(module, attribute, place)
    if found:
        function, is_async = runner_of(_of_queue(found, queue, place), place)
    else:
        function = _function_of(module, attribute or DEFAULT_ATTRIBUTE, place)
        is_async = is_coroutine_function(function)
    setup, teardown = (_hook(module, name, is_async=is_async) for name in ("setup", "teardown"))
    return Processor(function, setup, teardown, is_async)


def tasks_of(spec: str) -> list[Runs]:
    """Import a module and return its tasks; none when it has a processor. Raises: LoadFailed."""
    place, _, attribute = spec.partition(":")
    return _tasks_of(_module_at(place), attribute, place)


def _tasks_of(module: ModuleType, attribute: str, place: str) -> list[Runs]:
    """Return the task of that name; without one all tasks, unless there is a processor."""
    named = getattr(module, attribute or DEFAULT_ATTRIBUTE, None)
    if attribute or not (named is None or is_task(named)):
        return [named] if is_task(named) else []
    try:
        return tasks_in(vars(module))
    except Clash as error:
        message = f"{place}: {error}"
        raise LoadFailed(message) from None


def _of_queue(tasks: list[Runs], queue: str, place: str) -> list[Runs]:
    """Return the tasks of one queue, that of the worker or the only one. Raises: LoadFailed."""
    names = names_by_queue(tasks)
    queue = queue.rpartition(":")[2] or next(iter(names))
    if queue not in names:
        message = f"{place} has no task of queue {queue!r}; it has tasks of {told(names)}"
        raise LoadFailed(message)
    return [each for each in tasks if each.queue == queue]


def _function_of(module: ModuleType, attribute: str, place: str) -> Callable[..., Any]:
    function = getattr(module, attribute, None)
    if function is None:
        raise LoadFailed(_undefined(module, place, attribute))
    if not callable(function):
        message = f"{attribute!r} in {place} is {type(function).__name__}, not a function"
        raise LoadFailed(message)
    _refuse_misfits(function, f"{attribute!r} in {place}")
    return function  # type: ignore[no-any-return]  # callable


def load_alone(spec: str, queue: str = "") -> Processor:
    """Import the processor where no other child has its copy: one child, one interpreter.

    What the import seeds (``default_rng(42)``) would be the same in each of them.

    Raises:
        LoadFailed: as ``load_processor``.
    """
    processor = load_processor(spec, queue)
    random_state.note_generators()
    random_state.reseed()
    return processor


def see_sources(spec: str) -> None:
    """Put the folder of a processor's file on the path, before it is loaded."""
    place = spec.partition(":")[0]
    if sources.is_path(place):
        sources.put_on_path(os.path.dirname(os.path.abspath(place)))  # noqa: PTH100, PTH120 - pathlib is not worth its import here


def is_coroutine_function(function: Any) -> bool:
    """Tell whether a call returns a coroutine: functions, methods, partials, callable objects."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, MethodType):
        function = function.__func__
    if not isinstance(function, FunctionType):
        function = getattr(type(function), "__call__", None)  # noqa: B004 - not a test, its code is wanted
    code = getattr(function, "__code__", None)
    return bool(code is not None and code.co_flags & _CO_COROUTINE)


def _refuse_misfits(function: Any, what: str) -> None:
    """Refuse a function that fails for every job; of other callables nothing is known.

    Raises:
        LoadFailed: it cannot be called with a job alone, or a call only makes a generator.
    """
    if not isinstance(function, FunctionType):
        return
    code = function.__code__
    if code.co_flags & _CO_GENERATORS:
        message = f"{what} has a yield: nothing of it would run. Return one value"
        raise LoadFailed(message)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    given = {*names[code.co_argcount - len(function.__defaults__ or ()) : code.co_argcount]}
    given |= {*names[:1], *(function.__kwdefaults__ or {})}
    missing = [name for name in names if name not in given]
    if missing or not (code.co_argcount or code.co_flags & _CO_VARARGS):
        fault = f"needs more: {', '.join(missing)}" if missing else "takes nothing"
        message = f"{what} is called with the job, and {fault}"
        raise LoadFailed(message)


def _module_at(place: str) -> ModuleType:
    try:
        if sources.is_path(place):
            return _module_from_file(place)
        sources.see_current_folder()
        return importlib.import_module(place)
    except LoadFailed:
        raise
    except BaseException as error:
        if not place.strip(".") or _is_missing(place, error):
            raise LoadFailed(sources.missing_text(place)) from error
        raise _import_failed(place, error) from error


def _is_missing(place: str, error: BaseException) -> bool:
    """Tell whether it is the processor's module, or a package it is in, that was not found."""
    if not isinstance(error, ModuleNotFoundError) or sources.is_path(place):
        return False
    return f"{place}.".startswith(f"{error.name}.")


def _undefined(module: ModuleType, place: str, attribute: str) -> str:
    message = (
        f"{place} defines no {attribute!r}: write `def {attribute}(job): ...`, or make functions "
        "tasks by `@task(queue=…)`"
    )
    file = os.path.abspath(f"{place}.py")  # noqa: PTH100 - pathlib is not worth its import here
    if os.path.isfile(file) and file != module.__file__:  # noqa: PTH113 - as above
        message += f"; or did you mean {place}.py?"
    return message


def _module_from_file(path: str) -> ModuleType:
    """Load a file as ``python file.py`` would: its folder on the path, under its stem."""
    full = os.path.abspath(path)  # noqa: PTH100 - pathlib is not worth its import here
    if not os.path.isfile(full):  # noqa: PTH113 - as above
        raise LoadFailed(sources.missing_text(path))
    name = sources.name_of_file(full)
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        message = f"{path} is not a Python file"
        raise LoadFailed(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _hook(module: ModuleType, name: str, *, is_async: bool) -> Callable[[], Any] | None:
    """Return a function of the module, if it has one. Raises: LoadFailed: nobody could await it."""
    hook = getattr(module, name, None)
    if not callable(hook):
        return None
    if is_coroutine_function(hook) and not is_async:
        message = (
            f"{name!r} in {module.__file__} is `async def`, and the processor is not: nobody would "
            "await it"
        )
        raise LoadFailed(message)
    return hook  # type: ignore[no-any-return]  # callable


def _import_failed(place: str, error: BaseException) -> LoadFailed:
    """Return what the import raised, once: in a sentence, and below it where."""
    if isinstance(error, SystemExit):
        reason = f"{place} called sys.exit({error.code!r}) when it was imported"
        return LoadFailed(reason, stack_of(error))
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - an exception's own code may raise anything
        text = "its message could not be read"
    what = f"{type(error).__name__}: {text}"
    trace = stack_of(error).rstrip().removesuffix(what).rstrip()
    module = sources.module_of_file(place) if "relative import" in text else ""
    hint = f"; it is part of a package: run {module}" if module else ""
    return LoadFailed(f"{place} cannot be imported: {what}{hint}", trace)
