"""Waits for the results of jobs: one reader of the events stream serves all who wait.

    wait(id) ── registers ──► waiters ◄── resolves ── reader: events stream, XREAD BLOCK
                    │                                    │ failed, removed, malformed
                    └──────► unpolled ids ◄──────────────┘ and all, now and then
                                 └─► poll: how do they stand? ──► resolves

The reader takes its place in the stream before anything is polled, so that no ending falls between
the two; polling again now and then covers what the stream dropped before it was read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from sandboxq import errors
from sandboxq.broker.codec import json_value
from sandboxq.broker.events import completed_in_stream, last_event_id
from sandboxq.broker.state import Ending, endings_of
from sandboxq.errors import (
    BrokerUnavailable,
    ChildError,
    JobFailed,
    JobNotFound,
    QueueError,
    ResultTimeout,
)
from sandboxq.job import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxq.broker.connection import BlockingReader, Broker
    from sandboxq.broker.keys import QueueKeys

_log = logging.getLogger("sandboxq.queue.results")

# How long one read blocks, how long the reader stays when nobody waits, and how often all who wait
# are polled again: a busy stream drops entries before a slow reader gets to them.
READ_SECONDS = 2.0
RECHECK_SECONDS = 5.0


class Results:
    """The endings that callers in this process wait for, of one queue."""

    def __init__(self, broker: Broker, keys: QueueKeys) -> None:
        """Prepare; the reader starts with the first waiter."""
        self._broker = broker
        self._keys = keys
        self._waiters: dict[str, list[asyncio.Future[Any]]] = {}
        self._unpolled: set[str] = set()
        self._seen_failed: dict[str, str] = {}
        self._is_in_place = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None

    async def wait(self, job_id: str, timeout: float | None) -> Any:  # noqa: ANN401, ASYNC109 - any JSON; part of the interface
        """Return the job's value once it has completed.

        Raises: JobFailed or the ChildError that ended it; ResultTimeout after ``timeout`` seconds;
        JobNotFound when the job is gone and no event tells its value.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, []).append(future)
        self._unpolled.add(job_id)
        self._ensure_running()
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError as error:
            if future.done() and not future.cancelled():
                raise  # The job itself ended with an error that is a TimeoutError.
            message = f"job {job_id} did not finish within {timeout} s"
            raise ResultTimeout(message) from error
        finally:
            self._forget(job_id, future)

    async def close(self) -> None:
        """Stop reading; whoever still waits gets a QueueError."""
        for task in (self._reading, self._polling):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._fail_all("the queue was closed")

    def _forget(self, job_id: str, future: asyncio.Future[Any]) -> None:
        waiting = self._waiters.get(job_id, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiters.pop(job_id, None)
            self._unpolled.discard(job_id)
            self._seen_failed.pop(job_id, None)

    def _ensure_running(self) -> None:
        if self._reading is None or self._reading.done():
            self._is_in_place.clear()
            self._reading = self._start(self._read())
        if self._polling is None or self._polling.done():
            self._polling = self._start(self._poll())

    def _start(self, duty: Any) -> asyncio.Task[None]:  # noqa: ANN401 - a coroutine
        task: asyncio.Task[None] = asyncio.create_task(duty)
        task.add_done_callback(self._on_end)
        return task

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Pass a crash on to those who wait, as nobody else will wake them."""
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("waiting for results failed", exc_info=error)
            self._fail_all(f"waiting for results failed: {error!r}")
