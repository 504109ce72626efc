"""The event loop that jobs share, kept from a job that would end it for the others.

job ──► sys.exit, loop.stop, loop.shutdown_…          ──► that job fails, the loop goes on
    ──► os._exit                                      ──► the mark says whose code it was
    ──► threads, executors                            ──► their lines are the job's

What a job sets at the event loop (a task factory, an exception handler) is its own, until it ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _worker  # told by what it runs
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.child.activity_page import RUNNING
from sandboxq.child.failure import class_name
from sandboxq.child.output import running_call
from sandboxq.child.steps import JobTask, LoopIsShared, is_unwinding
from sandboxq.model.event_loop import loop_class

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import NoReturn

    Handler = Callable[[Any, dict[str, Any]], object]

# The attribute of a SystemExit that says in which call sys.exit was called.
_CALL = "_sandboxq_call"


def job_loop_class() -> type[asyncio.AbstractEventLoop]:
    """Return the class of the loop that jobs share."""
    base: Any = loop_class()

    class JobLoop(OwnSettings, base):  # type: ignore[misc]  # one of two
        """Refuses to be ended by a job."""

        def __init__(self) -> None:
            super().__init__()
            self.may_cancel: Callable[[int, JobTask], bool] = _may_cancel_all

        def stop(self) -> None:
            self._refuse("stopped the event loop")
            super().stop()

        async def shutdown_asyncgens(self) -> None:
            self._refuse("closed all asynchronous generators of the event loop")
            await super().shutdown_asyncgens()

        async def shutdown_default_executor(self, *timeout: Any, **more: Any) -> None:
            self._refuse("shut down the executor of the event loop")
            await super().shutdown_default_executor(*timeout, **more)

        def _refuse(self, what: str) -> None:
            call = running_call()
            if call:
                error = LoopIsShared(f"the job would have {what} that others run in")
                self.on_exit(call, error)
                raise error

    return JobLoop


def _may_cancel_all(_caller: int, _task: JobTask) -> bool:
    return True


def run_until_done(loop: Any, task: asyncio.Task[None]) -> None:
    """Run a task to its end, whatever a callback of a job raises meanwhile.

    Whose callback it was nobody can tell, but of what ``sys.exit`` raised; tasks never come here.
    """
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
            if task.done() or is_unwinding(error):
                raise
            call = vars(error).get(_CALL)
            if call:
                loop.on_exit(call, error)
                continue
            message = f"a callback of a job raised {class_name(error)}: it was ignored"
            loop.default_exception_handler({"message": message, "exception": error})
    task.result()


def keep_context(loop: Any, words: memoryview[int]) -> None:
    """Have threads that jobs start, and what they give to executors, belong to these jobs.

    What they print is theirs. ``words`` are those of the mark: a job that ends the process is told
    from its neighbours by them, also from a callback.
    """
    start, submit, leave = threading.Thread.start, ThreadPoolExecutor.submit, os._exit
    sys.exit = _exit_as_job
    _guard_handlers(loop, words)

    def start_in_context(thread: threading.Thread) -> None:
        if running_call() and getattr(thread, "_target", None) is not _worker:
            thread.run = _in_context(thread.run)  # type: ignore[method-assign]
        start(thread)

    def submit_in_context(executor: ThreadPoolExecutor, function: Any, /, *a: Any, **k: Any) -> Any:
        if running_call():
            function = _in_context(function)
        return submit(executor, function, *a, **k)

    def leave_as_job(status: int) -> NoReturn:
        words[RUNNING] = running_call() or words[RUNNING]
        leave(status)

    threading.Thread.start = start_in_context  # type: ignore[assignment, method-assign]
    ThreadPoolExecutor.submit = submit_in_context  # type: ignore[assignment, method-assign]
    os._exit = leave_as_job


def _guard_handlers(loop: Any, words: memoryview[int]) -> None:
    """Have what a job's signal handler raises fail that job, whose code ever it interrupts."""
    set_handler = signal.signal

    def set_guarded(number: int, handler: Any, /) -> Any:
        call = running_call()
        if not call or not callable(handler) or isinstance(handler, signal.Handlers):
            return set_handler(number, handler)

        def handle(*args: Any) -> None:
            try:
                handler(*args)
            except BaseException as error:
                if words[RUNNING] == call:
                    raise
                loop.on_exit(call, error)

        return set_handler(number, handle)

    signal.signal = set_guarded  # type: ignore[assignment]


def _exit_as_job(status: Any = None, /) -> NoReturn:
    """Exit the interpreter by raising SystemExit(status), which knows whose it is."""
    error = SystemExit(status)
    setattr(error, _CALL, running_call())
    raise error


def _in_context(function: Callable[..., Any]) -> Callable[..., Any]:
    context = copy_context()

    def run(*args: Any, **kwargs: Any) -> Any:
        return context.run(function, *args, **kwargs)

    return run


class _Watched(NamedTuple):
    """A signal that a job listens to, and what was there before."""

    call: int
    by_setup: tuple[Any, ...] | None
    by_python: Any


class OwnSettings:
    """To be put in front of a class of event loops."""

    def __init__(self) -> None:
        """No job has set anything."""
        super().__init__()
        self._setters: set[int] = set()
        self.factories: dict[int, Callable[..., Any]] = {}
        self.on_exit: Callable[[int, BaseException], None] = _ignore
        self._handlers: dict[int, Handler | None] = {}
        self._executors: dict[int, Any] = {}
        self._debuggers: dict[int, bool] = {}  # with what was before
        self._of_setup: dict[int, tuple[Any, ...]] = {}
        self._watched: dict[int, _Watched] = {}

    def forget(self, call: int) -> bool:
        """Undo what a job has set, which has ended; tell whether there was anything."""
        if call not in self._setters:
            return False
        self._setters.discard(call)
        self.factories.pop(call, None)
        self._handlers.pop(call, None)
        self._executors.pop(call, None)
        if call in self._debuggers:
            was = self._debuggers.pop(call)
            if not self._debuggers:
                self._base.set_debug(was)
        for number in [n for n, watched in self._watched.items() if watched.call == call]:
            self._unwatch(number)
        return True

    @property
    def _base(self) -> Any:
        return super()

    def _setter(self) -> int:
        """Return the job that sets something now; 0: none, it is set for all."""
        call = running_call()
        if call:
            self._setters.add(call)
        return call

    # ── task factory, executor, debug mode ──

    def set_task_factory(self, factory: Any) -> None:
        """Make the tasks of this job alone."""
        call = self._setter()
        if not call:
            self._base.set_task_factory(factory)
        elif factory is None:
            self.factories.pop(call, None)
        elif callable(factory):
            self.factories[call] = factory
        else:
            message = "task factory must be a callable or None"
            raise TypeError(message)

    def get_task_factory(self) -> Any:
        """Return the job's own, or that of all."""
        return self.factories.get(running_call()) or self._base.get_task_factory()

    def set_default_executor(self, executor: Any) -> None:
        """Run what this job alone gives to the default executor."""
        call = self._setter()
        if call:
            self._executors[call] = executor
        else:
            self._base.set_default_executor(executor)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Run it in the job's own executor, where the default one is meant and it has one."""
        if executor is None and self._executors:
            executor = self._executors.get(running_call())
        return self._base.run_in_executor(executor, func, *args)

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001 - asyncio's signature
        """Switch debug mode, until the job has ended that does."""
        call = self._setter()
        if call and call not in self._debuggers:
            was = next(iter(self._debuggers.values()), self._base.get_debug())
            self._debuggers[call] = was
        self._base.set_debug(enabled)

    # ── exceptions that nobody has caught ──

    def set_exception_handler(self, handler: Handler | None) -> None:
        """Hear of exceptions until the job has ended that says so."""
        call = self._setter()
        if not call or not (handler is None or callable(handler)):
            self._base.set_exception_handler(handler)
        else:
            self._handlers[call] = handler

    def get_exception_handler(self) -> Any:
        """Return the job's own, or that of all."""
        return self._handlers.get(running_call()) or self._base.get_exception_handler()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tell the handler of the job that it is about, or the last that was set."""
        call = self._whose(context)
        handler = self._handlers.get(call)
        try:
            if handler is None:
                self._base.call_exception_handler(context)
            else:
                handler(self, context)
        except BaseException as error:
            if is_unwinding(error):
                raise
            told = {"message": "an exception handler of the event loop failed", "exception": error}
            self._base.default_exception_handler(told)
            if call and not isinstance(error, Exception):
                self.on_exit(call, error)

    def _whose(self, context: dict[str, Any]) -> int:
        about = context.get("task") or context.get("future")
        call = about.call if isinstance(about, JobTask) else running_call()
        return call if call > 0 else next(reversed(self._handlers), 0)

    # ── signals ──

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:
        """Listen to a signal until the job has ended that says so."""
        call, former = self._setter(), signal.getsignal(sig)
        self._base.add_signal_handler(sig, callback, *args)
        if not call:
            self._of_setup[sig] = (callback, *args)
        else:
            self._watch(sig, call, former)

    def remove_signal_handler(self, sig: int) -> bool:
        """Do not, until the job has ended that says so."""
        call, former = self._setter(), signal.getsignal(sig)
        if not call:
            self._of_setup.pop(sig, None)
        elif sig in self._of_setup or sig in self._watched:
            self._watch(sig, call, former)
        return bool(self._base.remove_signal_handler(sig))

    def _watch(self, sig: int, call: int, former: Any) -> None:
        before = self._watched.get(sig)
        by_python = before.by_python if before else former
        self._watched[sig] = _Watched(call, self._of_setup.get(sig), by_python)

    def _unwatch(self, sig: int) -> None:
        watched = self._watched.pop(sig)
        self._base.remove_signal_handler(sig)
        if watched.by_setup is not None:
            self._base.add_signal_handler(sig, *watched.by_setup)
        elif watched.by_python is not None:  # None: it was set by C code
            signal.signal(sig, watched.by_python)


def _ignore(_call: int, _error: BaseException) -> None:
    """Nobody fails a job before the desk has opened."""
