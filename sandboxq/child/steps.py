"""Marks whose code has the event loop, step by step: about 100 ns each.

A step that does not end stops all jobs of the child. The mark says whose it is, also while C code
holds the GIL, and after a crash.
"""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any

from sandboxq.child.activity_page import RUNNING
from sandboxq.child.failure import class_name
from sandboxq.child.output import enter_call, leave_call, running_call

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping


class LoopIsShared(BaseException):
    """Raised where a job would end what others run in; no handler of ``Exception`` is meant."""


class JobTask(asyncio.Task[Any]):
    """A task of the loop that jobs share: another job does not cancel it."""

    __slots__ = ("call",)
    call: int  # whose it is, or one of those below

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel it, if whoever asks may; else say False, as for a task that has ended."""
        caller = running_call()
        loop: Any = self.get_loop()
        # Not set yet where it begins as it is made, which no other job can see.
        if caller == getattr(self, "call", caller) or self.done() or loop.may_cancel(caller, self):
            return super().cancel(msg)
        return False


# Of tasks that setup() has started, and of the one that reads calls.
OF_SETUP, OF_DESK = 0, -1


def job_task(
    coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, call: int, **more: Any
) -> JobTask:
    """Start a task that belongs to a call."""
    task = JobTask(coroutine, loop=loop, **more)
    task.call = call
    return task


def cancel_as(call: int, task: asyncio.Task[Any], message: str) -> None:
    """Cancel a task of a job, and what it awaits, as if the job did."""
    before = enter_call(call)
    try:
        task.cancel(message)
    except (RecursionError, LoopIsShared):
        return  # it waits for itself, or for others: whoever waits for its end has a deadline
    finally:
        leave_call(before)


def is_unwinding(error: BaseException) -> bool:
    """Tell what ends a thread of the coordinator's from what a job raises."""
    return bool(getattr(error, "is_unwinding", False))


@types.coroutine
def in_steps(
    coroutine: Coroutine[Any, Any, Any], words: memoryview[int], seq: int
) -> Generator[Any, Any, Any]:
    """Run a coroutine; the words of the mark say ``seq`` while it does not wait."""
    send, throw = coroutine.send, coroutine.throw
    value: Any = None
    error: BaseException | None = None
    before = words[RUNNING]  # not 0 in a task that begins within another one's step
    while True:
        words[RUNNING] = seq
        try:
            awaited = send(value) if error is None else throw(error)
        except StopIteration as end:
            return end.value
        finally:
            words[RUNNING] = before
        value = error = None
        before = 0
        if type(awaited) is JobTask and awaited.call != seq:
            awaited = _shielded(awaited)
        try:
            value = yield awaited
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is for the coroutine
            error = raised


def _shielded(task: JobTask) -> asyncio.Future[Any]:
    """Return what waits for a task of somebody else, and can be cancelled without it."""
    task._asyncio_future_blocking = False  # noqa: SLF001 - as a task does that waits for it
    outer = asyncio.shield(task)
    outer._asyncio_future_blocking = True  # noqa: SLF001 - as ``await`` does
    return outer


def task_factory(
    words: memoryview[int],
    factories: Mapping[int, Callable[..., asyncio.Task[Any]]],
    on_started: Callable[[int, asyncio.Task[Any]], None],
    on_exit: Callable[[int, BaseException], None],
) -> Callable[..., asyncio.Task[Any]]:
    """Return what makes the tasks of a loop, so that those which a job starts are marked as its.

    ``factories`` are those that jobs have set for themselves. ``on_started`` is told each task of
    a job with the number of its call, ``on_exit`` what one raises that would end the loop.
    """

    def make(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **kwargs: Any
    ) -> asyncio.Task[Any]:
        seq = running_call()
        if not seq:
            return job_task(coroutine, loop, OF_SETUP, **kwargs)
        marked = _marked(coroutine, words, seq, on_exit)
        own = factories.get(seq)
        task = own(loop, marked, **kwargs) if own else job_task(marked, loop, seq, **kwargs)
        on_started(seq, task)
        return task

    return make


def _marked(
    coroutine: Coroutine[Any, Any, Any],
    words: memoryview[int],
    seq: int,
    on_exit: Callable[[int, BaseException], None],
) -> Coroutine[Any, Any, Any]:
    async def run() -> Any:
        try:
            return await in_steps(coroutine, words, seq)
        except (SystemExit, KeyboardInterrupt, LoopIsShared) as error:
            if is_unwinding(error):
                raise
            on_exit(seq, error)
            message = f"a task of the job raised {class_name(error)}"
            raise asyncio.CancelledError(message) from error

    marked = run()
    for name in ("__name__", "__qualname__"):  # debuggers show the name that the user gave
        setattr(marked, name, getattr(coroutine, name, "run"))
    return marked
