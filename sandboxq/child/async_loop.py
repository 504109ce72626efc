"""The life of a child whose processor is ``async def``: up to ``concurrency`` jobs at once.

A call is read from the socket only when its job may start; what waits there can be taken back.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from sandboxq.child import output
from sandboxq.child.frames import CALL, DONE, HAS_OUTPUT, READY
from sandboxq.child.job import Job
from sandboxq.child.loader import is_coroutine_function
from sandboxq.child.loop import (
    microseconds_since,
    report_failed_start,
    result_bytes,
    tell_failure,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.link import Link
    from sandboxq.child.loader import Processor
    from sandboxq.child.loop import Settings


def live_async(
    link: Link, processor: Processor, settings: Settings, capture: output.Capture
) -> None:
    """Run calls on an event loop until the coordinator retires this child or is gone."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_Desk(link, processor, settings, capture).serve())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415 - used where it is installed
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


class _Desk:
    """Takes calls in, runs them as tasks, and stops reading while all seats are taken."""

    def __init__(
        self, link: Link, processor: Processor, settings: Settings, capture: output.Capture
    ) -> None:
        self._link = link
        self._processor = processor
        self._settings = settings
        self._capture = capture
        self._tasks: set[asyncio.Task[None]] = set()
        self._retired = asyncio.Event()
        self._is_reading = False

    async def serve(self) -> None:
        """Set up, answer calls, tear down."""
        try:
            await _call_hook(self._processor.setup)
        except BaseException as error:  # noqa: BLE001 - user code; whatever it is, the coordinator hears it
            report_failed_start(self._link, "setup()", error)
            return
        self._link.send(READY, 0)
        self._read_on()
        await self._retired.wait()
        self._read_no_more()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await _call_hook(self._processor.teardown)

    def _read_on(self) -> None:
        if not self._is_reading:
            asyncio.get_running_loop().add_reader(self._link.fileno(), self._on_readable)
            self._is_reading = True

    def _read_no_more(self) -> None:
        if self._is_reading:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._is_reading = False

    def _on_readable(self) -> None:
        while len(self._tasks) < self._settings.concurrency:
            try:
                message = self._link.receive_now()
            except BlockingIOError:
                return
            if message is None:
                os._exit(0)
            kind, seq, payload = message
            if kind != CALL:
                self._retired.set()
                return
            task = asyncio.get_running_loop().create_task(self._run(payload, seq))
            self._link.begin(seq)
            self._tasks.add(task)
            task.add_done_callback(self._on_done)
        self._read_no_more()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._retired.is_set():
            self._read_on()

    async def _run(self, payload: bytes, seq: int) -> None:
        self._capture.begin_task(seq)
        started = time.perf_counter_ns()
        settings = self._settings
        try:
            job = Job(payload, seq, link=self._link, queue_name=settings.queue_name)
            value = result_bytes(await self._processor.function(job))
        except BaseException as error:  # noqa: BLE001 - around the processor
            tell_failure(
                self._link, seq, error, settings=settings, capture=self._capture, started=started
            )
            return
        self._capture.end(seq)
        flags = HAS_OUTPUT if output.has_unread_output() else 0
        self._link.send(DONE, seq, value, flags=flags, microseconds=microseconds_since(started))


async def _call_hook(hook: Any) -> None:
    if hook is None:
        return
    if is_coroutine_function(hook):
        await hook()
    else:
        hook()
