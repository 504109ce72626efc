"""Marks whose code has the event loop, step by step: about 100 ns each.

A step that does not end stops all jobs of the child. The mark says whose it is, also while C code
holds the GIL, and after a crash.

Stacks of jobs are the frames of their task, and of the tasks it started. A question to the
coordinator is awaited by the job that asks, and the other jobs go on.
"""

from __future__ import annotations

import asyncio
import os
import types
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sandboxq.child.activity_page import RUNNING
from sandboxq.child.failure import class_name
from sandboxq.child.frames import REQUEST, STACKS_WANTED, encode_request, response_number
from sandboxq.child.link import refuse_fork, replies_from
from sandboxq.child.output import enter_call, leave_call, running_call

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
    from types import FrameType

    from sandboxq.child.inbox import Inbox
    from sandboxq.child.link import Link

# Of tasks that setup() has started, and of the one that reads calls.
OF_SETUP, OF_LOOP = 0, -1
# A job with more tasks than this has them alike.
_MOST_TASKS = 20
_MOST_FRAMES = 100
_FOLDER = os.path.dirname(__file__)  # noqa: PTH120 - pathlib is not worth its import
T = TypeVar("T")


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


_IN_STEPS = in_steps.__code__


class _Stack(NamedTuple):
    """The lines of a task, and the call whose job started it; 0: none."""

    lines: list[str]
    seq: int


def stacks_of(jobs: Mapping[int, asyncio.Task[Any]]) -> dict[int, str]:
    """Return for each job, by the number of its call, its stacks, the innermost frame first."""
    started: dict[int, list[str]] = {seq: [] for seq in jobs}
    counts = dict.fromkeys(jobs, 0)
    for task in asyncio.all_tasks():
        stack = _stack_of(task)
        if stack.seq not in jobs or jobs[stack.seq] is task:
            continue
        counts[stack.seq] += 1
        if counts[stack.seq] <= _MOST_TASKS:
            started[stack.seq] += [f"Task {task.get_name()!r}:", *stack.lines]
    for seq, count in counts.items():
        if count > _MOST_TASKS:
            started[seq].append(f"… and {count - _MOST_TASKS} more tasks")
    own = {seq: _stack_of(task).lines for seq, task in jobs.items()}
    return {seq: "\n".join(own[seq] + started[seq]) for seq in jobs}


def _stack_of(task: asyncio.Task[Any]) -> _Stack:
    """Return the frames of a task without ours, as faulthandler writes them."""
    frames, seq = frames_of(task)
    lines = [
        f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}'
        for frame in frames
    ]
    return _Stack(lines, seq)


def frames_of(task: asyncio.Task[Any]) -> tuple[list[FrameType], int]:
    """Return the frames of a task without ours, the innermost first, and whose it is."""
    frames: list[FrameType] = []
    seq = 0
    awaitable: Any = task.get_coro()
    while awaitable is not None and len(frames) < _MOST_FRAMES:
        frame, awaitable = _step(awaitable)
        if frame is None:
            break
        if frame.f_code is _IN_STEPS:
            seq, awaitable = frame.f_locals["seq"], frame.f_locals["coroutine"]
        elif not frame.f_code.co_filename.startswith(_FOLDER):
            frames.append(frame)
    return frames[::-1], seq


def frames_by_task(
    own: asyncio.Task[Any], started: Iterable[asyncio.Task[Any]]
) -> list[tuple[str, list[FrameType]]]:
    """Return where the tasks of a job wait, by name; its own has none."""
    tasks = [("", own), *((task.get_name(), task) for task in islice(started, _MOST_TASKS))]
    return [(name, frames_of(task)[0]) for name, task in tasks]


def _step(awaitable: Any) -> tuple[FrameType | None, Any]:
    """Return the frame of a coroutine or generator, and what it waits for."""
    for frame, inner in (
        ("cr_frame", "cr_await"),
        ("gi_frame", "gi_yieldfrom"),
        ("ag_frame", "ag_await"),
    ):
        if hasattr(awaitable, frame):
            return getattr(awaitable, frame), getattr(awaitable, inner)
    return None, None


class AsyncQuestions:
    """The requests that have no answer yet."""

    def __init__(
        self, link: Link, inbox: Inbox, on_stacks_wanted: Callable[[], None], *, most: int
    ) -> None:
        """Ask over ``link``, read answers from ``inbox`` on the running loop.

        At most ``most`` questions are under way: who asks more waits before it asks.
        """
        self._room = asyncio.Semaphore(most)
        self._on_stacks_wanted = on_stacks_wanted
        self._link = link
        self._inbox = inbox
        self._number = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        asyncio.get_running_loop().add_reader(inbox.fileno(), self._on_readable)

    async def ask(self, seq: int, question: int, argument: bytes, decode: Callable[[Any], T]) -> T:
        """Return the answer, decoded; see Questions.ask."""
        refuse_fork(self._link)
        async with self._room:
            payload = await self._answer_to(seq, question, argument)
        return decode(replies_from(payload))

    async def _answer_to(self, seq: int, question: int, argument: bytes) -> bytes:
        self._number += 1
        number = self._number
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            request = encode_request(number, argument)
            self._link.send(REQUEST, seq, request, detail=question)
            return await answer
        finally:
            del self._waiting[number]

    def _on_readable(self) -> None:
        try:
            message = self._inbox.receive_now()
        except BlockingIOError:
            return
        if message is None:
            self._link.leave()
        kind, _, payload = message
        if kind == STACKS_WANTED:
            self._on_stacks_wanted()
            return
        answer = self._waiting.get(response_number(payload))
        if answer is not None and not answer.done():  # else its job was cancelled
            answer.set_result(payload)
