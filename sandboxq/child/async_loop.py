"""The life of a child whose processor is ``async def``: up to ``concurrency`` jobs at once.

A call is read from the socket only when its job may start; what waits there can be taken back.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sandboxq.child import job_loop, leftover_kinds, steps
from sandboxq.child.failure import class_name
from sandboxq.child.frames import (
    CALL,
    CALLS,
    IS_ASYNC,
    LEFT,
    PING,
    PONG,
    READY,
    RETIRE,
    STACKS,
    decode_calls,
    encode_left,
)
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
from sandboxq.child.packets import Granted, TurnBuffer
from sandboxq.child.process_state import states_now
from sandboxq.child.steps import (
    OF_LOOP,
    OF_SETUP,
    AsyncQuestions,
    JobTask,
    LoopIsShared,
    cancel_as,
    in_steps,
    job_task,
    task_factory,
)
from sandboxq.child.usage import TurnMeter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from sandboxq.child import output
    from sandboxq.child.activity_page import ActivityPage
    from sandboxq.child.leftovers import Leftovers
    from sandboxq.child.link import Link
    from sandboxq.child.loader import Processor
    from sandboxq.child.loop import Settings

# So long may code that is to end go on: it may have a connection to close.
_END_SECONDS = 2.0
_CANCELLED = "the job's own code cancelled its task, or what it waited for"


def live_async(
    link: Link, processor: Processor, settings: Settings, capture: output.Capture
) -> None:
    """Run calls on an event loop until the coordinator retires this child or is gone."""
    with asyncio.Runner(loop_factory=job_loop.job_loop_class()) as runner:
        loop: Any = runner.get_loop()
        asyncio.set_event_loop(loop)
        intake = _Intake(loop, link, processor, settings, capture)
        loop.may_cancel, loop.on_exit = intake.may_cancel, intake.on_exit
        try:
            job_loop.run_until_done(loop, job_task(intake.serve(), loop, OF_LOOP))
        finally:
            intake.hang_up()
            asyncio.set_event_loop(None)


class _Intake:
    """Takes calls in, runs them as tasks, and stops reading while all places are taken."""

    def __init__(
        self,
        loop: Any,
        link: Link,
        processor: Processor,
        settings: Settings,
        capture: output.Capture,
    ) -> None:
        self._loop = loop
        self._link = link
        self._processor = processor
        self._settings = settings
        self._capture = capture
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._started: dict[int, set[asyncio.Task[Any]]] = {}  # by jobs, besides their own
        self._strays: dict[asyncio.Task[Any], float] = {}  # that are to end, and until when
        self._failed: dict[int, BaseException] = {}  # jobs whose other tasks have ended them
        self._retired = asyncio.Event()
        self._leftovers: Leftovers | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._is_reading = False
        if link.reports.sampler is not None:
            link.reports.sampler.waiting = self._waiting

    async def serve(self) -> None:
        """Set up, answer calls, tear down."""
        link, loop = self._link, self._loop
        factory = task_factory(link.mark.words, loop.factories, self._on_started, self.on_exit)
        loop.set_task_factory(factory)
        try:
            await _call_hook(self._processor.setup)
        except BaseException as error:  # noqa: BLE001 - user code; whatever it is, the coordinator hears it
            report_failed_start(self._link, "setup()", error)
            return
        link.send(READY, 0, detail=IS_ASYNC, usage=link.meter.read())
        loop.add_reader(link.cancels.fileno(), self._on_cancel)
        link.cancels.on_question = partial(_echo_soon, loop, link.mark)
        loop.set_task_factory(factory)  # setup() may have set another
        if link.has_pipes:  # else the threads are those of the coordinator's process
            job_loop.keep_context(loop, link.mark.words)
        link.questions = AsyncQuestions(
            link,
            link.answers,
            self._tell_stacks,
            most=link.budgets.questions * self._settings.concurrency,
        )
        if self._settings.is_tidied:
            self._leftovers = leftovers_of(link, self._settings, states_now())
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
        link, held = self._link, TurnBuffer(self._link, loop.call_soon)
        if self._settings.concurrency > 1 and self._settings.policy != "strict":
            link.held, link.meter = held, TurnMeter(link.meter, loop.call_soon)
        try:
            yield
        finally:
            link.held = None  # its view of the mark would keep that from being closed
            held.flush()

    def hang_up(self) -> None:
        """Hear nobody any more: what is left of the tasks is only to be cancelled."""
        link = self._link
        held, link.held = link.held, None
        if held is not None:  # serve() has not ended; where it does not, it goes without the memory
            if link.has_pipes:
                held.flush()
            held.close()
        if self._strays and link.has_pipes:
            link.leave()  # they do not heed that
        for end in (link, link.answers, link.cancels):
            self._loop.remove_reader(end.fileno())

    def _read_on(self) -> None:
        if not self._is_reading:
            self._loop.add_reader(self._link.fileno(), self._on_readable)
            self._is_reading = True

    def _read_no_more(self) -> None:
        if self._is_reading:
            self._loop.remove_reader(self._link.fileno())
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
        task = job_task(self._run(payload, seq, granted), self._loop, seq)
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

    def on_exit(self, seq: int, error: BaseException) -> None:
        """Fail the job that wants to end the process, or what is others' in it."""
        if seq in self._tasks and seq not in self._failed:
            self._failed[seq] = error
            self._loop.call_soon(self._end, seq, f"a task of the job raised {class_name(error)}")
            self._loop.call_later(_END_SECONDS, self._insist, seq, self._tasks[seq])

    def _end(self, seq: int, message: str) -> None:
        task = self._tasks.get(seq)
        if task is not None:
            cancel_as(seq, task, message)

    def _insist(self, seq: int, task: JobTask) -> None:
        """End a job that has failed and goes on, with this child: its neighbours go back.

        A thread cannot be ended: there the job has failed when it ends.
        """
        if self._tasks.get(seq) is task and self._link.has_pipes:
            started = time.perf_counter_ns()
            self._tell_failure(seq, self._failed[seq], started, ends_child=True)

    def may_cancel(self, caller: int, task: JobTask) -> bool:
        """Tell whether code of the job ``caller`` (0: of nobody knows whom) may cancel a task.

        Raises: LoopIsShared, in the job, when it is another job's.
        """
        is_job = self._tasks.get(task.call) is task or task.call == OF_LOOP
        if caller not in self._tasks:
            return not is_job
        if task.call == OF_SETUP:
            self._loop.call_soon(self._cancel_of_setup, caller, task)
            return False
        if not is_job and task.call not in self._tasks:
            return True
        error = LoopIsShared("the job would have cancelled a task of another job, beside it")
        self.on_exit(caller, error)
        if self._link.mark.running() == caller:
            raise error
        return False

    def _cancel_of_setup(self, caller: int, task: JobTask) -> None:
        """Cancel what setup() has started, but not for a job that would cancel all there is."""
        if caller not in self._failed:
            asyncio.Task.cancel(task)

    def _on_cancel(self) -> None:
        """Raise CancelledError in the jobs that are to end."""
        for seq in self._link.cancels.read():
            task = self._tasks.get(seq)
            if task is not None and self._link.cancels.tell(seq):
                cancel_as(seq, task, "the job was cancelled")

    def _tell_stacks(self) -> None:
        for seq, text in steps.stacks_of(self._tasks).items():
            self._link.send(STACKS, seq, text.encode("utf-8", "backslashreplace"))
        self._link.send(STACKS, 0)

    def _waiting(self, seq: int) -> list[tuple[str, list[FrameType]]]:
        """Return where a job's tasks are that wait, for its sampler."""
        task = self._tasks.get(seq)
        return steps.frames_by_task(task, self._started.get(seq, ())) if task else []

    def _on_done(self, seq: int, granted: Granted | None, task: asyncio.Task[None]) -> None:
        del self._tasks[seq]
        for stray in self._started.pop(seq, ()):
            self._strays[stray] = self._loop.time() + _END_SECONDS
            stray.add_done_callback(self._strays.pop)
            cancel_as(seq, stray, "its job has ended")
        if self._loop.forget(seq):
            self._link.answer(LEFT, 0, encode_left(1), detail=leftover_kinds.SETTINGS)
        # Cancelled before its first step, it has said nothing, and taken no token.
        if task.cancelled() and (granted is None or granted.may_begin(seq)):
            error = self._failed.pop(seq, asyncio.CancelledError())
            self._tell_failure(seq, error, time.perf_counter_ns())
        if not self._retired.is_set():
            self._read_on()
        self._failed.pop(seq, None)
        if self._leftovers is not None and self._look_timer is None:
            self._look_timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Look for what jobs have left: for all of it while none runs."""
        self._look_timer = None
        assert self._leftovers is not None  # noqa: S101 - it was there when this was planned
        if self._tasks:
            self._leftovers.look_beside_jobs()
        else:
            self._leftovers.look()
        self._look_for_strays(self._leftovers)
        if self._leftovers.must_leave:
            self._read_no_more()
            self._retired.set()

    def _look_for_strays(self, leftovers: Leftovers) -> None:
        if not self._strays:
            return
        late = sum(until < self._loop.time() for until in self._strays.values())
        if late:
            leftovers.leave_for(leftover_kinds.TASKS, late)
        elif self._look_timer is None:
            self._look_timer = self._loop.call_later(_END_SECONDS, self._look)

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
            if isinstance(error, asyncio.CancelledError) and not error.args:
                error.args = (_CANCELLED,)
            self._tell_failure(seq, self._failed.pop(seq, error), started)
            return
        if seq in self._failed:
            self._tell_failure(seq, self._failed.pop(seq), started)
            return
        tell_value(self._link, seq, value, capture=self._capture, started=started)

    def _tell_failure(
        self, seq: int, error: BaseException, started: int, *, ends_child: bool = False
    ) -> None:
        tell_failure(
            self._link,
            seq,
            error,
            settings=self._settings,
            capture=self._capture,
            started=started,
            ends_child=ends_child,
        )


def _echo_soon(loop: asyncio.AbstractEventLoop, mark: ActivityPage, number: int) -> None:
    """Answer in a turn of the loop: the question was perhaps read by a job that blocks it."""
    loop.call_soon_threadsafe(mark.echo, number)


async def _call_hook(hook: Any) -> None:
    if hook is None:
        return
    if is_coroutine_function(hook):
        await hook()
    else:
        hook()
