"""A ``concurrent.futures.Executor`` whose workers are those of a queue.

caller: submit, map ─► PendingCalls.put ─► (thread of this executor: calls.py) ─► Redis ─► workers
future ◄────────────── value, exception
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, Unpack

import cloudpickle

from sandboxq.broker.keys import QueueKeys, chosen_prefix
from sandboxq.errors import (
    UsageError,
)
from sandboxq.executor.calls import JobFuture, PendingCalls, SentCall
from sandboxq.model.job import Keep
from sandboxq.payload.signing import (
    MEMBER,
    SignedPlace,
    checked_secret,
    signed_text,
)
from sandboxq.queue.options import AddOptions, checked_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")

# How long jobs are kept after their end, in seconds, for results that are read late.
_KEPT = Keep(age=600.0)
# Characters of a job's name.
_NAME_LIMIT = 200
# Decided by the executor itself.
_REFUSED_OPTIONS = frozenset({"job_id", "deduplication", "parent"})


class SandboxExecutor(concurrent.futures.Executor):
    """Ships functions, closures too, to the workers of a queue, signed with a shared secret.

    Workers are started by ``python -m sandboxq run sandboxq.functions --queue QUEUE`` with the same
    $SANDBOXQ_SECRET. ``options`` are those of ``Queue.add``, for every job. What a function raises
    comes back as itself when it is a built-in exception, else as RemoteError (StopIteration too: no
    future can hold it); the end of a child as its ChildError. While Redis is away, calls wait.
    """

    def __init__(
        self,
        queue: str,
        url: str | None = None,
        *,
        secret: str | bytes | None = None,
        prefix: str | None = None,
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
        keys = QueueKeys(queue, chosen_prefix(prefix))
        checked_options(self._options, prefix=keys.prefix)
        self._key = checked_secret(secret)
        self._place = SignedPlace(keys.prefix, keys.queue)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._is_shut = False
        self._loop = asyncio.new_event_loop()
        self._calls = PendingCalls(keys, self._options, self._loop)
        self._thread = threading.Thread(target=self._serve, name="sandboxq-executor", daemon=True)
        self._thread.start()
        connecting = asyncio.run_coroutine_threadsafe(self._calls.connect(url), self._loop)
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

        ``cancel_futures`` cancels those that no worker has; what runs, runs on.
        """
        with self._lock:
            was_shut, self._is_shut = self._is_shut, True
        if self._pid != os.getpid():
            return  # thread and connections are the parent's
        if cancel_futures:
            self._call(self._calls.cancel_unbegun_soon)
        if not was_shut:
            self._call(self._calls.end_when_idle)
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
        future = JobFuture(lambda: self._call(self._calls.cancel, job_id), is_chunk=is_chunk)
        with self._lock:
            if self._is_shut:
                message = "cannot schedule new futures after shutdown"
                raise RuntimeError(message)
            if self._pid != os.getpid():
                message = "an executor does not survive a fork: make one in the new process"
                raise UsageError(message)
            self._calls.put(SentCall(future, job_id, name, data))
        self._call(self._calls.wake)
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


def _pickled(value: Any) -> bytes:
    try:
        pickled: bytes = cloudpickle.dumps(value)
    except Exception as error:
        message = f"this cannot be sent to a worker: {type(error).__name__}: {error}"
        raise UsageError(message) from error
    return pickled


def _name_of(function: Any) -> str:
    """Return the name of the job: short, and text that any encoding has."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name)[:_NAME_LIMIT].encode("utf-8", "backslashreplace").decode() or "function"


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
