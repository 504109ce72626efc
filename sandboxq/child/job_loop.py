"""The event loop that jobs share, kept from a job that would end it for the others.

job ──► sys.exit, loop.stop, loop.shutdown_…          ──► that job fails, the loop goes on
    ──► os._exit                                      ──► the mark says whose code it was
    ──► threads, executors                            ──► their lines are the job's
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _worker  # told by what it runs
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from sandboxq.child.activity_page import RUNNING
from sandboxq.child.failure import class_name
from sandboxq.child.output import running_call
from sandboxq.child.own_settings import OwnSettings
from sandboxq.child.steps import LoopIsShared, is_unwinding

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import NoReturn

    from sandboxq.child.steps import JobTask

# The attribute of a SystemExit that says in which call sys.exit was called.
_CALL = "_sandboxq_call"


def loop_class() -> type[asyncio.AbstractEventLoop]:
    """Return the class of the loop: uvloop's where it is installed."""
    base: Any
    try:
        from uvloop import Loop as base  # noqa: N813, PLC0415 - used where it is installed
    except ImportError:
        from asyncio import SelectorEventLoop as base  # noqa: N813, PLC0415 - as above

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
