"""The calls of an executor, on the loop of its thread: sent in batches, ended one by one.

wake ─► _dispatch: add_bulk ─► Redis ─► workers of sandboxq.functions
future ◄─ value, exception ◄── _on_ending ◄─ Results: one reader for all who wait

A call costs no task of its own: only what failed, or has large arrays, is looked at by one.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.commands.change_job import cancel_unless_begun
from sandboxq.broker.connect.broker import Broker
from sandboxq.child.functions import RAISED
from sandboxq.errors import (
    BrokerUnavailable,
    ChildError,
    JobCancelled,
    JobFailed,
    QueueError,
    RemoteError,
    SandboxqError,
    SignatureRefused,
    UsageError,
)
from sandboxq.payload.signing import MEMBER
from sandboxq.payload.tagged import exception_from_tagged, value_from_tagged
from sandboxq.queue.binary import Referring, whole
from sandboxq.queue.queue import Queue
from sandboxq.queue.results import Results

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.broker.keys import QueueKeys
    from sandboxq.queue.options import AddOptions

_log = logging.getLogger("sandboxq.executor")

# Jobs and bytes in one add: as many as hold Redis for some milliseconds.
_BATCH = 100
_BATCH_BYTES = 4 << 20
# Jobs that are cancelled at a time.
_CANCELS = 100
_SHUT = "its executor was shut down"


class SentCall(NamedTuple):
    """A call on its way to its queue."""

    future: JobFuture
    job_id: str
    name: str
    data: dict[str, str]


class JobFuture(concurrent.futures.Future[Any]):
    """A future whose ``cancel`` ends its job, also when that runs already.

    To concurrent.futures it is pending until its job has ended: what runs there is not cancelled.
    """

    def __init__(self, on_cancel: Callable[[], None], *, is_chunk: bool) -> None:
        """Have ``on_cancel`` end the job; ``is_chunk``: the value is all of the job's values."""
        super().__init__()
        self.is_chunk = is_chunk
        self.is_claimed = False
        self._on_cancel = on_cancel

    def running(self) -> bool:
        """Tell whether a worker has the job; a moment late, and again False once it is done."""
        return self.is_claimed and not self.done()

    def cancel(self) -> bool:
        """Cancel, and have the job ended; False when it has ended already."""
        was_cancelled = self.cancelled()
        if not self.give_up():
            return False
        if not was_cancelled:
            self._on_cancel()
        return True

    def give_up(self) -> bool:
        """Cancel the future alone: its job will not run."""
        was_cancelled = self.cancelled()
        if not super().cancel():
            return False
        if not was_cancelled:
            with contextlib.suppress(concurrent.futures.InvalidStateError, RuntimeError):
                self.set_running_or_notify_cancel()  # for those in concurrent.futures.wait
        return True


class PendingCalls:
    """The calls of an executor that have not ended. Only ``put`` is for other threads."""

    def __init__(
        self, keys: QueueKeys, options: AddOptions, loop: asyncio.AbstractEventLoop
    ) -> None:
        """Prepare for ``loop``, which is stopped at the end; ``options`` are those of every job."""
        self._keys = keys
        self._options = options
        self._loop = loop
        self._pending: dict[str, JobFuture] = {}
        self._buffer: deque[SentCall] = deque()
        self._added: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._dispatching: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._is_connected = self._is_ending = False
        self._broker: Broker
        self._queue: Queue
        self._results: Results

    async def connect(self, url: str | None) -> None:
        """Connect. Raises: BrokerUnavailable."""
        self._broker = await Broker.connect(url)
        self._results = Results(self._broker, self._keys, self._on_active)
        self._queue = Queue(self._keys.queue, prefix=self._keys.prefix, broker=self._broker)
        self._is_connected = True

    def put(self, entry: SentCall) -> None:
        """Take a call; ``wake`` sends it."""
        self._pending[entry.job_id] = entry.future
        self._buffer.append(entry)

    def _start(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def wake(self) -> None:
        """Send what was put."""
        if self._dispatching is None or self._dispatching.done():
            self._dispatching = self._start(self._dispatch())

    async def _dispatch(self) -> None:
        while self._buffer:
            await self._add(self._next_batch())

    def _next_batch(self) -> list[SentCall]:
        batch: list[SentCall] = []
        size = 0
        while self._buffer and len(batch) < _BATCH and size < _BATCH_BYTES:
            entry = self._buffer.popleft()
            if not entry.future.cancelled():
                batch.append(entry)
                size += len(entry.data[MEMBER])
        return batch

    async def _add(self, batch: list[SentCall]) -> None:
        """Add jobs, again when Redis was away: one whose id there is already is not added twice."""
        while batch:
            try:
                await self._add_once(batch)
            except BrokerUnavailable:
                await self._broker.wait_until_back()
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would end them
                if len(batch) == 1:
                    self._end(batch[0].job_id, error=error)
                    return
                for entry in batch:  # one of them is to blame, and each is tried alone
                    await self._add([entry])
                return
            for entry in batch:
                self._follow(entry.job_id)
            return

    async def _add_once(self, batch: list[SentCall]) -> None:
        rows: Any = [
            (entry.name, entry.data, {**self._options, "job_id": entry.job_id}) for entry in batch
        ]
        await self._results.be_in_place()
        await self._queue.add_bulk(rows)

    def _follow(self, job_id: str) -> None:
        """Wait for the end of a job that was added."""
        self._added.add(job_id)
        if job_id in self._pending:
            ending = self._results.expect(job_id)
            ending.add_done_callback(partial(self._on_ending, job_id))
        else:
            self.cancel(job_id)  # it was cancelled while it was being added

    def _on_active(self, job_id: str) -> None:
        future = self._pending.get(job_id)
        if future is not None:
            future.is_claimed = True

    def _on_ending(self, job_id: str, ending: asyncio.Future[Any]) -> None:
        error = ending.exception()
        future = self._pending.get(job_id)
        if isinstance(error, JobCancelled) and error.reason == _SHUT and future is not None:
            future.give_up()
        if future is None or future.cancelled():
            self._end(job_id)
        elif isinstance(error, JobFailed) and not isinstance(error, ChildError):
            self._start(self._tell_failure(job_id, error))
        elif error is not None:
            self._end(job_id, error=error)
        elif isinstance(ending.result(), Referring):
            self._start(self._tell_whole(job_id, ending.result()))
        else:
            self._tell(job_id, ending.result())

    def _tell(self, job_id: str, values: Any) -> None:
        """End a future; what a worker answers may be anything, and ends it too."""
        future = self._pending.get(job_id)
        try:
            decoded = value_from_tagged(values)
            value = decoded if future is not None and future.is_chunk else decoded[0]
        except Exception as error:  # noqa: BLE001 - as above
            self._end(job_id, error=_unreadable(error))
        else:
            self._end(job_id, value=value)

    async def _tell_whole(self, job_id: str, values: Referring) -> None:
        try:
            found = await whole(self._broker, values)
        except Exception as error:  # noqa: BLE001 - as above
            self._end(job_id, error=_unreadable(error))
        else:
            self._tell(job_id, found)

    async def _tell_failure(self, job_id: str, error: JobFailed) -> None:
        try:
            raised = await self._raised(job_id, error)
        except Exception as broken:  # noqa: BLE001 - as above
            raised = _unreadable(broken)
        self._end(job_id, error=raised)

    async def _raised(self, job_id: str, error: JobFailed) -> Exception:
        """Return what a function raised, as far as it can be made anew."""
        with contextlib.suppress(QueueError):
            stored = await self._queue.read_job(job_id)
            if stored.cause == SignatureRefused.__name__:
                return SignatureRefused(error.reason)
            trace = stored.stacktrace[-1] if stored.stacktrace else ""
            return _exception_from_trace(error.reason, stored.cause or "", trace)
        return error

    def _end(self, job_id: str, *, value: Any = None, error: BaseException | None = None) -> None:
        self._added.discard(job_id)
        future = self._pending.pop(job_id, None)
        if future is not None:
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)
        self._stop_when_idle()

    def cancel(self, job_id: str) -> None:
        """End a job whose future was cancelled."""
        self._pending.pop(job_id, None)
        if job_id in self._added:
            self._added.discard(job_id)
            self._start(self._cancel_job(job_id))
        self._stop_when_idle()

    async def _cancel_job(self, job_id: str) -> None:
        try:
            await self._queue.cancel(job_id, "its future was cancelled")
        except SandboxqError as error:
            _log.debug("cancelling job %s: %s", job_id, error)

    def cancel_unbegun_soon(self) -> None:
        """Cancel the futures whose jobs no worker has, and these jobs."""
        self._start(self._cancel_unbegun())

    async def _cancel_unbegun(self) -> None:
        for entry in self._buffer:
            if entry.future.give_up():
                self._pending.pop(entry.job_id, None)
        if self._dispatching is not None:
            await asyncio.wait([self._dispatching])
        job_ids = list(self._added)
        for start in range(0, len(job_ids), _CANCELS):
            part = job_ids[start : start + _CANCELS]
            await asyncio.gather(*(self._cancel_unless_begun(job_id) for job_id in part))
        self._stop_when_idle()

    async def _cancel_unless_begun(self, job_id: str) -> None:
        try:
            now_ms = await self._broker.now_ms()
            await cancel_unless_begun(self._broker, self._keys, job_id, reason=_SHUT, now_ms=now_ms)
        except SandboxqError as error:
            _log.debug("cancelling job %s: %s", job_id, error)

    def end_when_idle(self) -> None:
        """Disconnect and stop the loop as soon as every call has ended."""
        self._is_ending = True
        self._stop_when_idle()

    def _stop_when_idle(self) -> None:
        if self._is_ending and not self._pending and self._stopping is None:
            self._stopping = self._loop.create_task(self._stop())

    async def _stop(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._is_connected:
            await self._results.close()
            await self._broker.close()
        # After what the closed connections have still to do, or they are left half closed.
        self._loop.call_soon(self._loop.stop)


def _unreadable(error: Exception) -> Exception:
    """Return the error of a future whose answer cannot be used."""
    if isinstance(error, SandboxqError):
        return error
    message = f"the answer of the worker cannot be used: {type(error).__name__}: {error!s:.200}"
    told = UsageError(message)
    told.__cause__ = error
    return told


class _RemoteTraceback(Exception):
    """The child's trace, shown above that of the caller, as ProcessPoolExecutor does."""


def _exception_from_trace(reason: str, cause: str, trace: str) -> Exception:
    text, mark, last = trace.rstrip().rpartition(RAISED)
    error: Exception | None = None
    if mark:
        with contextlib.suppress(ValueError, RecursionError):
            error = exception_from_tagged(json.loads(last))
    shown = text.rstrip() if mark else trace
    if error is None:
        error = RemoteError(reason, type_name=cause, traceback=shown)
    error.__cause__ = _RemoteTraceback(f'\n"""\n{shown}\n"""')
    return error
