"""The life of a child whose processor is ``async def``: up to ``concurrency`` jobs at once.

A call is read from the socket only when its job may start; what waits there can be taken back.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sandboxq.child import async_stacks, job_loop
from sandboxq.child.async_questions import AsyncQuestions
from sandboxq.child.class_names import class_name
from sandboxq.child.frames import (
    CALL,
    CALLS,
    IS_ASYNC,
    PING,
    PONG,
    READY,
    RETIRE,
    STACKS,
    decode_calls,
)
from sandboxq.child.held import Granted, HeldInTurn
from sandboxq.child.job import Job
from sandboxq.child.leftovers import LOOK_SECONDS
from sandboxq.child.loader import is_coroutine_function
from sandboxq.child.loop import (
    leftovers_of,
    report_failed_start,
    result_from,
    tell_failure,
    tell_value,
)
from sandboxq.child.steps import in_steps, task_factory
from sandboxq.child.usage import TurnMeter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.child import output
    from sandboxq.child.leftovers import Leftovers
    from sandboxq.child.link import Link
    from sandboxq.child.loader import Processor
    from sandboxq.child.loop import Settings
    from sandboxq.child.mark import Mark


def live_async(
    link: Link, processor: Processor, settings: Settings, capture: output.Capture
) -> None:
    """Run calls on an event loop until the coordinator retires this child or is gone."""
    with asyncio.Runner(loop_factory=job_loop.loop_class()) as runner:
        loop = runner.get_loop()
        asyncio.set_event_loop(loop)
        desk = _Desk(link, processor, settings, capture)
        try:
            job_loop.run_until_done(loop, loop.create_task(desk.serve()))
        finally:
            desk.hang_up(loop)
            asyncio.set_event_loop(None)


class _Desk:
    """Takes calls in, runs them as tasks, and stops reading while all seats are taken."""

    def __init__(
        self, link: Link, processor: Processor, settings: Settings, capture: output.Capture
    ) -> None:
        self._link = link
        self._processor = processor
        self._settings = settings
        self._capture = capture
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._started: dict[int, set[asyncio.Task[Any]]] = {}  # by jobs, besides their own
        self._failed: dict[int, BaseException] = {}  # jobs whose other tasks have ended them
        self._retired = asyncio.Event()
        self._leftovers: Leftovers | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._is_reading = False

    async def serve(self) -> None:
        """Set up, answer calls, tear down."""
        try:
            await _call_hook(self._processor.setup)
        except BaseException as error:  # noqa: BLE001 - user code; whatever it is, the coordinator hears it
            report_failed_start(self._link, "setup()", error)
            return
        self._link.send(READY, 0, detail=IS_ASYNC, usage=self._link.meter.read())
        link, loop = self._link, asyncio.get_running_loop()
        loop.add_reader(link.cancels.fileno(), self._on_cancel)
        link.cancels.on_question = partial(_echo_soon, loop, link.mark)
        loop.set_task_factory(task_factory(link.mark.words, self._on_started, self._on_exit))
        if link.has_pipes:  # else the threads are those of the coordinator's process
            job_loop.keep_context(link.mark.words)
        link.questions = AsyncQuestions(
            link,
            link.answers,
            self._tell_stacks,
            most=link.budgets.questions * self._settings.concurrency,
        )
        if self._settings.is_tidied:
            self._leftovers = leftovers_of(link, self._settings)
        with self._answering_by_turns(loop):
            self._read_on()
            await self._retired.wait()
            self._read_no_more()
            if self._tasks:
                await asyncio.wait(self._tasks.values())
        await _call_hook(self._processor.teardown)

    @contextmanager
    def _answering_by_turns(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Send the answers of a turn of the loop together; a job alone has no use for it."""
        link, held = self._link, HeldInTurn(self._link, loop.call_soon)
        if self._settings.concurrency > 1 and self._settings.policy != "strict":
            link.held, link.meter = held, TurnMeter(link.meter, loop.call_soon)
        try:
            yield
        finally:
            link.held = None  # its view of the mark would keep that from being closed
            held.flush()

    def hang_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear nobody any more: what is left of the tasks is only to be cancelled."""
        for end in (self._link, self._link.answers, self._link.cancels):
            loop.remove_reader(end.fileno())

    def _read_on(self) -> None:
        if not self._is_reading:
            asyncio.get_running_loop().add_reader(self._link.fileno(), self._on_readable)
            self._is_reading = True

    def _read_no_more(self) -> None:
        if self._is_reading:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._is_reading = False

    def _on_readable(self) -> None:
        """Take one message; the next only when its jobs have run to their first `await`.

        A job that computes on the loop must not have others beside it that nobody can take back:
        those of its own packet can be, until they have their tokens.
        """
        try:
            message = self._link.receive_now()
        except BlockingIOError:
            return
        if message is None:
            self._link.leave()
        kind, seq, payload = message
        if kind == PING:
            self._link.send(PONG, 0)
        elif kind == RETIRE:
            self._retired.set()
        elif kind == CALL:
            self._begin(seq, payload)
        elif kind == CALLS:
            payloads = decode_calls(payload)
            granted = Granted(self._link, seq + len(payloads) - 1)
            for number, each in enumerate(payloads, seq):
                self._begin(number, each, granted)

    def _begin(self, seq: int, payload: bytes, granted: Granted | None = None) -> None:
        task = asyncio.get_running_loop().create_task(self._run(payload, seq, granted))
        self._tasks[seq] = task
        task.add_done_callback(partial(self._on_done, seq, granted))
        if len(self._tasks) >= self._settings.concurrency:
            self._read_no_more()

    def _on_started(self, seq: int, task: asyncio.Task[Any]) -> None:
        """Keep a task that a job has started: it ends with the job at the latest."""
        if seq in self._tasks:
            started = self._started.setdefault(seq, set())
            started.add(task)
            task.add_done_callback(started.discard)
        else:
            task.cancel("its job has ended")

    def _on_exit(self, seq: int, error: BaseException) -> None:
        """Fail the job one of whose tasks wants the process to exit: others run in it."""
        task = self._tasks.get(seq)
        if task is not None:
            self._failed[seq] = error
            task.cancel(f"a task of the job raised {class_name(error)}")

    def _on_cancel(self) -> None:
        """Raise CancelledError in the jobs that are to end."""
        for seq in self._link.cancels.read():
            task = self._tasks.get(seq)
            if task is not None and self._link.cancels.tell(seq):
                task.cancel("the job was cancelled")

    def _tell_stacks(self) -> None:
        for seq, text in async_stacks.stacks_of(self._tasks).items():
            self._link.send(STACKS, seq, text.encode("utf-8", "backslashreplace"))
        self._link.send(STACKS, 0)

    def _on_done(self, seq: int, granted: Granted | None, task: asyncio.Task[None]) -> None:
        del self._tasks[seq]
        for stray in self._started.pop(seq, ()):
            stray.cancel("its job has ended")
        # Cancelled before its first step, it has said nothing, and taken no token.
        if task.cancelled() and (granted is None or granted.may_begin(seq)):
            error = self._failed.pop(seq, asyncio.CancelledError())
            self._tell_failure(seq, error, time.perf_counter_ns())
        if not self._retired.is_set():
            self._read_on()
        if self._leftovers is not None and self._look_timer is None:
            self._look_timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Look for what jobs have left: for all of it while none runs."""
        self._look_timer = None
        assert self._leftovers is not None  # noqa: S101 - it was there when this was planned
        if self._tasks:
            self._leftovers.look_beside_jobs()
        else:
            self._leftovers.look()
        if self._leftovers.must_leave:
            self._read_no_more()
            self._retired.set()

    async def _run(self, payload: bytes, seq: int, granted: Granted | None) -> None:
        if granted is not None and not granted.may_begin(seq):
            return
        self._capture.begin_task(seq)
        await in_steps(self._answer(payload, seq), self._link.mark.words, seq)

    async def _answer(self, payload: bytes, seq: int) -> None:
        started = time.perf_counter_ns()
        self._link.mark.begin_at(seq, time.monotonic_ns())
        settings = self._settings
        try:
            job = Job(payload, seq, link=self._link, queue_name=settings.queue_name)
            returned = await self._processor.function(job)
            value = result_from(job.with_parts(returned), self._link, settings)
        except BaseException as error:  # noqa: BLE001 - around the processor
            self._tell_failure(seq, self._failed.pop(seq, error), started)
            return
        if seq in self._failed:
            self._tell_failure(seq, self._failed.pop(seq), started)
            return
        tell_value(self._link, seq, value, capture=self._capture, started=started)

    def _tell_failure(self, seq: int, error: BaseException, started: int) -> None:
        settings, capture = self._settings, self._capture
        tell_failure(self._link, seq, error, settings=settings, capture=capture, started=started)


def _echo_soon(loop: asyncio.AbstractEventLoop, mark: Mark, number: int) -> None:
    """Answer in a turn of the loop: the question was perhaps read by a job that blocks it."""
    loop.call_soon_threadsafe(mark.echo, number)


async def _call_hook(hook: Any) -> None:
    if hook is None:
        return
    if is_coroutine_function(hook):
        await hook()
    else:
        hook()
