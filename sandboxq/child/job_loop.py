"""The event loop that jobs share, kept from a job that would end it for the others.

job ──► sys.exit in a task of its own, loop.stop ──► that job fails, the loop goes on
──► os._exit                                  ──► the mark says whose code it was
──► threads, executors                        ──► their lines are the job's
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _worker  # told by what it runs
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from sandboxq.child.mark import RUNNING
from sandboxq.child.output import running_call
from sandboxq.child.steps import LoopStopped, is_unwinding

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import NoReturn


def loop_class() -> type[asyncio.AbstractEventLoop]:
    """Return the class of the loop: uvloop's where it is installed."""
    base: Any
    try:
        from uvloop import Loop as base  # noqa: N813, PLC0415 - used where it is installed
    except ImportError:
        from asyncio import SelectorEventLoop as base  # noqa: N813, PLC0415 - as above

    class JobLoop(base):  # type: ignore[misc]  # one of two
        """Refuses to be stopped by a job."""

        def stop(self) -> None:
            if running_call():
                message = "the job would have stopped the event loop that others run in"
                raise LoopStopped(message)
            super().stop()

    return JobLoop


def run_until_done(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    """Run a task to its end, whatever a callback of a job raises meanwhile.

    Which job a callback was of nobody can tell any more; those of tasks never come here.
    """
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
            if task.done() or is_unwinding(error):
                raise
            context = {"message": f"a callback of a job raised {error!r}: it was ignored"}
            loop.call_exception_handler(context)
    task.result()


def keep_context(words: memoryview[int]) -> None:
    """Have threads that jobs start, and what they give to executors, belong to these jobs.

    What they print is theirs. ``words`` are those of the mark: a job that ends the process is told
    from its neighbours by them, also from a callback.
    """
    start, submit, leave = threading.Thread.start, ThreadPoolExecutor.submit, os._exit

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


def _in_context(function: Callable[..., Any]) -> Callable[..., Any]:
    context = copy_context()

    def run(*args: Any, **kwargs: Any) -> Any:
        return context.run(function, *args, **kwargs)

    return run
