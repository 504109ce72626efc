"""A worker beside a test: real children, its coordinator in a thread with a loop of its own.

It works in tests with and without an event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, NamedTuple, Self, Unpack

from sandboxq.errors import UsageError
from sandboxq.worker.worker import Worker

if TYPE_CHECKING:
    import os

    from sandboxq.config import WorkerOptions

# A test that drains longer has a job that hangs.
DRAIN_SECONDS = 60.0


class Drained(NamedTuple):
    """How many attempts ended in which way."""

    completed: int
    failed: int
    retried: int


class WorkerOfTest:
    """Runs the jobs of one queue: ``drain()`` those that wait now, or all of a ``with`` block."""

    def __init__(
        self, queue: str, processor: str | os.PathLike[str], **options: Unpack[WorkerOptions]
    ) -> None:
        """Name queue and processor; ``options`` are those of Worker, one child by default."""
        self._queue = queue
        self._processor = processor
        self._options: WorkerOptions = {"procs": 1, "shutdown_timeout": 5.0, **options}
        self._run: _Run | None = None

    def drain(self, *, within: float = DRAIN_SECONDS) -> Drained:
        """Run jobs until none waits or is active; those that are delayed stay.

        Failed jobs raise nothing: see their number, and ``Queue.get_job``.
        Raises: TimeoutError after ``within`` seconds, its children are killed then;
        ProcessorNotLoaded; UsageError while the worker runs in a ``with`` block.
        """
        if self._run is not None:
            message = "the worker runs already: wait for its jobs with job.result()"
            raise UsageError(message)
        run = self._new_run(burst=True)
        run.wait(within)
        return run.drained

    async def adrain(self, *, within: float = DRAIN_SECONDS) -> Drained:
        """Do as ``drain``, while the event loop goes on."""
        return await asyncio.to_thread(self.drain, within=within)

    def start(self) -> None:
        """Run jobs from now on; returns when the children are ready. Raises: as ``drain``."""
        if self._run is None:
            run = self._new_run(burst=False)
            run.wait_until_ready()
            self._run = run

    def stop(self) -> None:
        """Finish what runs, and end; twice is harmless."""
        run, self._run = self._run, None
        if run is not None:
            run.stop()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _new_run(self, *, burst: bool) -> _Run:
        worker = Worker(self._queue, self._processor, **self._options)
        return _Run(worker, burst=burst)


class _Run:
    """One life of a worker, in a thread of its own."""

    def __init__(self, worker: Worker, *, burst: bool) -> None:
        self._worker = worker
        self._burst = burst
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._main: asyncio.Task[None] | None = None
        context = contextvars.Context()  # the test's context variables are not the children's
        self._thread = threading.Thread(
            target=context.run, args=(self._in_thread,), name="sandboxq test worker", daemon=True
        )
        self._thread.start()

    @property
    def drained(self) -> Drained:
        counters = self._worker.counters
        return Drained(counters.completed, counters.failed, counters.retried)

    def wait_until_ready(self) -> None:
        try:
            self._ready.wait()
        except BaseException:
            self._end_now()  # Ctrl-C, or a time limit of the test
            raise
        if self._error is not None:
            raise self._error

    def wait(self, timeout: float | None) -> None:
        """Wait for the end; raise what it ended with."""
        try:
            self._thread.join(timeout)
        except BaseException:
            self._end_now()  # Ctrl-C, or a time limit of the test
            raise
        if self._thread.is_alive():
            running = self._worker.running
            self._end_now()
            message = f"after {timeout:g} s {running} jobs of {self._worker.keys.queue!r} still ran"
            raise TimeoutError(message)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        self._call(self._worker.stop)
        self.wait(None)

    def _end_now(self) -> None:
        self._call(self._worker.kill if self._ready.is_set() else self._cancel_start)
        self._thread.join()

    def _cancel_start(self) -> None:
        """Give up an import or a setup() that may take for ever: there is nothing to kill yet."""
        if self._main is None:
            self._loop.call_soon(self._cancel_start)
        else:
            self._main.cancel()

    def _call(self, function: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function)  # type: ignore[arg-type]  # takes nothing
        except RuntimeError:
            return  # it has ended, and closed its loop

    def _in_thread(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._life())
        except BaseException as error:  # noqa: BLE001 - raised where the test waits
            self._error = error
        finally:
            self._ready.set()

    async def _life(self) -> None:
        self._main = asyncio.current_task()
        async with self._worker as worker:
            self._ready.set()
            await worker.run(burst=self._burst, handle_signals=False)
