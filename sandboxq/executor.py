"""A ``concurrent.futures.Executor`` whose workers are those of a queue.

caller: submit, map ─► buffer ─┐                              thread of this executor
                               ├─► _dispatch: add_bulk ─► Redis ─► workers of sandboxq.functions
future ◄─ value, exception ◄───┴── _settle ◄─ Results: one reader for all who wait
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import logging
import os
import threading
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Self, TypeVar, Unpack

import cloudpickle

from sandboxq.broker.keys import DEFAULT_PREFIX, QueueKeys
from sandboxq.child.functions import RAISED
from sandboxq.errors import (
    JobFailed,
    QueueError,
    RemoteError,
    SandboxqError,
    SignatureRefused,
    UsageError,
)
from sandboxq.job import Keep
from sandboxq.queue.options import AddOptions, checked_options
from sandboxq.queue.queue import Queue
from sandboxq.signing import MEMBER, Place, checked_secret, signed_text
from sandboxq.tagged import exception_from_tagged, value_from_tagged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from sandboxq.queue.job import QueuedJob

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("sandboxq.executor")

# Jobs in one add: as many as hold Redis for a millisecond.
_BATCH = 100
# How long jobs are kept after their end, in seconds, for results that are read late.
_KEPT = Keep(age=600.0)
# Decided by the executor itself.
_REFUSED_OPTIONS = frozenset({"job_id", "deduplication", "parent"})


class _Entry(NamedTuple):
    future: concurrent.futures.Future[Any]
    job_id: str
    name: str
    data: dict[str, str]


class _JobFuture(concurrent.futures.Future[Any]):
    """A future whose ``cancel`` ends its job, also when that runs already."""

    def __init__(self, on_cancel: Callable[[], None], *, is_chunk: bool) -> None:
        super().__init__()
        self.is_chunk = is_chunk
        self._on_cancel = on_cancel

    def cancel(self) -> bool:
        """Cancel, and have the job ended; False when it has ended already."""
        was_cancelled = self.cancelled()
        if not super().cancel():
            return False
        if not was_cancelled:
            with contextlib.suppress(concurrent.futures.InvalidStateError, RuntimeError):
                self.set_running_or_notify_cancel()  # for those in concurrent.futures.wait
            self._on_cancel()
        return True


class SandboxExecutor(concurrent.futures.Executor):
    """Ships functions, closures too, to the workers of a queue, signed with a shared secret.

    Workers are started by ``python -m sandboxq run sandboxq.functions --queue QUEUE`` with the same
    $SANDBOXQ_SECRET. ``options`` are those of ``Queue.add``, for every job. A future is pending
    until its job has ended. What the function raises comes back as itself when it is a built-in
    exception, else as RemoteError; the end of a child as its ChildError.
    """

    def __init__(
        self,
        queue: str,
        url: str | None = None,
        *,
        secret: str | bytes | None = None,
        prefix: str = DEFAULT_PREFIX,
        **options: Unpack[AddOptions],
    ) -> None:
        """Check the arguments and connect. ``secret`` None is $SANDBOXQ_SECRET.

        Raises: UsageError; BrokerUnavailable.
        """
        if refused := _REFUSED_OPTIONS & options.keys():
            message = f"an executor gives its jobs no {', '.join(sorted(refused))}"
            raise UsageError(message)
        self._options: AddOptions = {
            "remove_on_complete": _KEPT,
            "remove_on_fail": _KEPT,
            **options,
        }
        checked_options(self._options, prefix=prefix)
        self._key = checked_secret(secret)
        self._place = Place(prefix, QueueKeys(queue, prefix).queue)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._is_shut = False
        self._pending: dict[str, _JobFuture] = {}
        self._buffer: deque[_Entry] = deque()
        self._added: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancels: set[asyncio.Task[None]] = set()
        self._dispatching: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._queue = Queue(queue, url, prefix=prefix)
        self._thread = threading.Thread(target=self._serve, name="sandboxq-executor", daemon=True)
        self._thread.start()
        connecting = asyncio.run_coroutine_threadsafe(self._queue.connect(), self._loop)
        try:
            connecting.result()
        except BaseException:
            self.shutdown()
            raise

    # ── concurrent.futures ──────────────────────────────────────────────────

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """Have ``fn(*args, **kwargs)`` run; return its future.

        Raises: PayloadTooLarge; UsageError for what cannot be pickled; RuntimeError after shutdown.
        """
        chosen = self._send(_pickled(fn), [(args, kwargs)], _name_of(fn))
        outer: concurrent.futures.Future[T] = chosen
        return outer

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[T]:
        """Return the values in the order of the arguments, ``chunksize`` calls to a job.

        All are sent at once. Raises, while iterating: TimeoutError ``timeout`` seconds after the
        call of ``map``; then, and when the iterator is given up, the rest is cancelled.
        """
        if chunksize < 1:
            message = "chunksize must be >= 1."
            raise ValueError(message)
        deadline = None if timeout is None else time.monotonic() + timeout
        pickled, name = _pickled(fn), _name_of(fn)
        rows = zip(*iterables, strict=False)
        futures = []
        while chunk := list(itertools.islice(rows, chunksize)):
            calls: list[Any] = [(row, {}) for row in chunk]
            futures.append(self._send(pickled, calls, name, is_chunk=True))
        return _values_in_order(futures, deadline)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - the field's signature
        """Take no more, and close when all jobs have ended; ``wait`` for that.

        ``cancel_futures`` ends the jobs that have not; those that run are told to.
        """
        with self._lock:
            was_shut, self._is_shut = self._is_shut, True
        if self._pid != os.getpid():
            return  # thread and connections are the parent's
        if cancel_futures:
            for future in list(self._pending.values()):
                future.cancel()
        if not was_shut:
            self._call(self._stop_when_idle)
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    # ── async ───────────────────────────────────────────────────────────────

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the value of ``fn(*args, **kwargs)``; cancelling ends the job."""
        return await asyncio.wrap_future(self.submit(fn, *args, **kwargs))

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Shut down, and wait without blocking the loop."""
        await asyncio.to_thread(self.shutdown)

    # ── the caller's thread ─────────────────────────────────────────────────

    def _send(
        self, pickled: bytes, calls: list[Any], name: str, *, is_chunk: bool = False
    ) -> concurrent.futures.Future[Any]:
        job_id = f"call-{uuid.uuid4().hex}"
        payload = _pickled((pickled, calls))
        data = {MEMBER: signed_text(payload, self._key, self._place, job_id)}
        future = _JobFuture(lambda: self._call(self._cancel, job_id), is_chunk=is_chunk)
        with self._lock:
            if self._is_shut:
                message = "cannot schedule new futures after shutdown"
                raise RuntimeError(message)
            if self._pid != os.getpid():
                message = "an executor does not survive a fork: make one in the new process"
                raise UsageError(message)
            self._pending[job_id] = future
            self._buffer.append(_Entry(future, job_id, name, data))
        self._call(self._wake)
        return future

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is left to do
            self._loop.call_soon_threadsafe(function, *arguments)

    # ── the executor's thread ───────────────────────────────────────────────

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _start(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _wake(self) -> None:
        if self._dispatching is None or self._dispatching.done():
            self._dispatching = self._start(self._dispatch())

    async def _dispatch(self) -> None:
        while self._buffer:
            batch = [self._buffer.popleft() for _ in range(min(_BATCH, len(self._buffer)))]
            batch = [entry for entry in batch if not entry.future.cancelled()]
            await self._add(batch)

    async def _add(self, batch: list[_Entry]) -> None:
        options = [{**self._options, "job_id": entry.job_id} for entry in batch]
        rows: Any = [
            (entry.name, entry.data, each) for entry, each in zip(batch, options, strict=True)
        ]
        try:
            jobs = await self._queue.add_bulk(rows) if rows else []
        except SandboxqError as error:
            for entry in batch:
                self._end(entry.job_id, error=error)
            return
        for job in jobs:
            self._added.add(job.id)
            if job.id in self._pending:
                self._start(self._settle(job))
            else:
                self._cancel(job.id)  # it was cancelled while it was being added

    async def _settle(self, job: QueuedJob) -> None:
        """Wait for a job's end, and tell its future."""
        try:
            values = await job.result()
            future = self._pending.get(job.id)
            decoded = value_from_tagged(values)
            value = decoded if future is not None and future.is_chunk else decoded[0]
        except JobFailed as error:
            self._end(job.id, error=await self._raised(job, error))
        except (SandboxqError, LookupError, TypeError) as error:
            self._end(job.id, error=error)
        else:
            self._end(job.id, value=value)

    async def _raised(self, job: QueuedJob, error: JobFailed) -> Exception:
        """Return what a function raised, as far as it can be made anew."""
        with contextlib.suppress(QueueError):
            stored = await job.refresh()
            if stored.cause == SignatureRefused.__name__:
                return SignatureRefused(str(error))
            trace = stored.stacktrace[-1] if stored.stacktrace else ""
            return _exception_from_trace(str(error), stored.cause or "", trace)
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

    def _cancel(self, job_id: str) -> None:
        self._pending.pop(job_id, None)
        if job_id in self._added:
            self._added.discard(job_id)
            self._cancels.add(self._start(self._cancel_job(job_id)))
        self._stop_when_idle()

    async def _cancel_job(self, job_id: str) -> None:
        try:
            await self._queue.cancel(job_id, "its future was cancelled")
        except SandboxqError as error:
            _log.debug("cancelling job %s: %s", job_id, error)

    def _stop_when_idle(self) -> None:
        if self._is_shut and not self._pending and self._stopping is None:
            self._stopping = self._loop.create_task(self._stop())

    async def _stop(self) -> None:
        if self._dispatching is not None:
            await asyncio.wait([self._dispatching])
        if self._cancels:
            await asyncio.wait(self._cancels)
        for task in self._tasks:  # they wait for the results of cancelled jobs
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._queue.close()
        # After what the closed connections have still to do, or they are left half closed.
        self._loop.call_soon(self._loop.stop)


class _RemoteTraceback(Exception):
    """The child's trace, shown above that of the caller, as ProcessPoolExecutor does."""


def _pickled(value: Any) -> bytes:
    try:
        pickled: bytes = cloudpickle.dumps(value)
    except Exception as error:
        message = f"this cannot be sent to a worker: {type(error).__name__}: {error}"
        raise UsageError(message) from error
    return pickled


def _name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__)) or "function"


def _values_in_order(
    futures: list[concurrent.futures.Future[Any]], deadline: float | None
) -> Iterator[Any]:
    futures.reverse()
    try:
        while futures:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            yield from futures.pop().result(left)
    finally:
        for future in futures:
            future.cancel()


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
