"""Marks whose code has the event loop, step by step: about 100 ns each.

A step that does not end stops all jobs of the child. The mark says whose it is, also while C code
holds the GIL, and after a crash.
"""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any

from sandboxq.child.class_names import class_name
from sandboxq.child.mark import RUNNING
from sandboxq.child.output import running_call

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator


class LoopStopped(BaseException):
    """Raised where a job would stop the event loop; no handler of ``Exception`` is meant."""


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
    while True:
        words[RUNNING] = seq
        try:
            awaited = send(value) if error is None else throw(error)
        except StopIteration as end:
            return end.value
        finally:
            words[RUNNING] = 0
        value = error = None
        try:
            value = yield awaited
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is for the coroutine
            error = raised


def task_factory(
    words: memoryview[int],
    on_started: Callable[[int, asyncio.Task[Any]], None],
    on_exit: Callable[[int, BaseException], None],
) -> Callable[..., asyncio.Task[Any]]:
    """Return what makes the tasks of a loop, so that those which a job starts are marked as its.

    ``on_started`` is told each of those with the number of its call, ``on_exit`` what one raises
    that would end the loop.
    """

    def make(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **kwargs: Any
    ) -> asyncio.Task[Any]:
        seq = running_call()
        if not seq:
            return asyncio.Task(coroutine, loop=loop, **kwargs)
        marked = _marked(coroutine, words, seq, on_exit)
        task: asyncio.Task[Any] = asyncio.Task(marked, loop=loop, **kwargs)
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
        except (SystemExit, KeyboardInterrupt, LoopStopped) as error:
            if is_unwinding(error):
                raise
            on_exit(seq, error)
            message = f"a task of the job raised {class_name(error)}"
            raise asyncio.CancelledError(message) from error

    marked = run()
    for name in ("__name__", "__qualname__"):  # debuggers show the name that the user gave
        setattr(marked, name, getattr(coroutine, name, "run"))
    return marked
