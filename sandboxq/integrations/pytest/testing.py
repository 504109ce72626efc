"""The fixture ``sandboxq``: queues, workers, inline runs, assertions about jobs, and time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, Unpack

from sandboxq.broker.connect.broker import Broker
from sandboxq.errors import UsageError
from sandboxq.integrations.pytest.worker import DRAIN_SECONDS, Drained, WorkerOfTest
from sandboxq.model.clock import SYSTEM_CLOCK
from sandboxq.model.validation import seconds_from
from sandboxq.queue.base import Connected
from sandboxq.queue.blocking import portal
from sandboxq.queue.queue import SyncQueue

if TYPE_CHECKING:
    import os
    from datetime import timedelta

    from sandboxq.config import WorkerOptions
    from sandboxq.model.job import StoredJob
    from sandboxq.queue.job import SyncJob

# How many jobs of the queue are shown.
_SHOWN = 20
_LONGEST = 200
_READ = {
    "data": lambda job: job.data,
    "delay": lambda job: job.delay_ms / 1000,
    "priority": lambda job: job.priority,
    "attempts": lambda job: job.opts.attempts,
    "job_id": lambda job: job.id,
}


class SandboxqTesting:
    """A test's side of the queues; all that it opens is closed when the test ends."""

    def __init__(self, url: str) -> None:
        """Use the server at ``url``, which belongs to the test session alone."""
        self.url = url
        self._closing = contextlib.ExitStack()
        self._queues: dict[str, SyncQueue] = {}
        self._inline: dict[str, WorkerOfTest] = {}
        # Held while jobs run inline: a job that adds one is inside of a run already.
        self._draining = threading.Lock()

    def __enter__(self) -> Self:
        """Empty the server."""
        self._command("FLUSHALL")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the workers, close the queues, return to the present."""
        Connected.after_add = None
        SYSTEM_CLOCK.shift_ms = 0
        self._closing.close()

    # ── queues and workers ──────────────────────────────────────────────────

    def queue(self, name: str) -> SyncQueue:
        """Return a blocking queue on the test's server, the same for the same name.

        In asynchronous tests ``Queue(name)`` is on this server too.
        """
        if name not in self._queues:
            self._queues[name] = self._closing.enter_context(SyncQueue(name, self.url))
        return self._queues[name]

    def worker(
        self, queue: str, processor: str | os.PathLike[str], **options: Unpack[WorkerOptions]
    ) -> WorkerOfTest:
        """Return a real worker: ``with sandboxq.worker(…):`` runs jobs while the block runs.

        ``processor`` and ``options`` are those of Worker. Its ``drain()`` runs what waits.
        """
        worker = WorkerOfTest(queue, processor, **options)
        self._closing.callback(worker.stop)
        return worker

    def drain(
        self,
        queue: str,
        processor: str | os.PathLike[str],
        *,
        within: float = DRAIN_SECONDS,
        **options: Unpack[WorkerOptions],
    ) -> Drained:
        """Run the jobs that wait in ``queue`` with a real worker; see WorkerOfTest.drain."""
        return self.worker(queue, processor, **options).drain(within=within)

    async def adrain(
        self,
        queue: str,
        processor: str | os.PathLike[str],
        *,
        within: float = DRAIN_SECONDS,
        **options: Unpack[WorkerOptions],
    ) -> Drained:
        """Do as ``drain``, while the event loop goes on."""
        return await self.worker(queue, processor, **options).adrain(within=within)

    # ── inline ──────────────────────────────────────────────────────────────

    def inline(self, queue: str, processor: str | os.PathLike[str]) -> None:
        """Until the test ends, run each job of ``queue`` before the call that adds it returns.

        It runs in a thread of this process, so that mocks, debuggers and coverage see it; its data
        and its value travel through Redis as JSON, and attempts, flows and events are the real
        ones. Delayed jobs wait for ``advance``.
        """
        self._inline[queue] = WorkerOfTest(
            queue, processor, isolation="thread", policy="none", procs=1
        )
        Connected.after_add = self._run_inline

    async def _run_inline(self) -> None:
        # Not in this loop: what is waited for may be the loop of the blocking queues.
        await asyncio.to_thread(self._drain_inline)

    def _drain_inline(self) -> None:
        if not self._draining.acquire(blocking=False):
            return
        try:
            while waiting := [name for name in self._inline if self._has_work(name)]:
                for name in waiting:
                    self._inline[name].drain()
        finally:
            self._draining.release()

    def _has_work(self, name: str) -> bool:
        queue = self.queue(name)
        if queue.is_paused():
            return False
        counts = queue.counts(("waiting", "prioritized"))
        now_ms = SYSTEM_CLOCK.now_ms() + SYSTEM_CLOCK.shift_ms
        return any(counts.values()) or queue.delayed_count(now_ms) > 0

    # ── assertions ──────────────────────────────────────────────────────────

    def assert_enqueued(
        self, queue: str, name: str | None = None, *, count: int | None = None, **expected: Any
    ) -> SyncJob:
        """Return the job of ``queue`` that was added, waiting or ended, as ``expected`` says.

        ``data`` may be a part: of a dict the members named. ``delay`` is in seconds; ``priority``,
        ``attempts`` and ``job_id`` are compared too. Of several the newest is returned; ``count``
        says how many there must be.
        Raises: AssertionError, with what is in the queue.
        """
        __tracebackhide__ = True
        wanted = Expected(name, **expected)
        jobs = self._jobs(queue)
        found = [job for job in jobs if wanted.fits(job)]
        if not found or count not in {None, len(found)}:
            raise AssertionError(missing_job(queue, wanted, jobs, found=len(found), count=count))
        return found[0]

    def refute_enqueued(self, queue: str, name: str | None = None, **expected: Any) -> None:
        """Fail when ``assert_enqueued`` with the same arguments would find a job."""
        __tracebackhide__ = True
        wanted = Expected(name, **expected)
        for job in self._jobs(queue):
            if wanted.fits(job):
                raise AssertionError(unexpected_job(queue, job))

    def _jobs(self, queue: str) -> list[SyncJob]:
        states = list(self.queue(queue).counts())
        jobs = self.queue(queue).get_jobs([state for state in states if state != "paused"])
        return sorted(jobs, key=lambda job: job.timestamp_ms, reverse=True)

    # ── time ────────────────────────────────────────────────────────────────

    def advance(self, by: float | timedelta) -> None:
        """Let the queues' time go on by so many seconds: delays, back-off and schedulers are due.

        It holds for queues and workers of this process until the test ends; ``time.time()`` and
        the times to live in Redis (deduplication, rate limits) stay. Inline jobs that are due run
        before it returns.
        """
        SYSTEM_CLOCK.shift_ms += round(seconds_from("by", by) * 1000)
        self._wake_workers()
        if self._inline:
            self._drain_inline()

    def _wake_workers(self) -> None:
        """Set the marker of each queue with delayed jobs: a worker that waits looks anew."""
        for key in self._command("KEYS", "bull:*:delayed"):
            base = key.decode().removesuffix(":delayed")
            self._command("ZADD", f"{base}:marker", 0, "0")

    def _command(self, *words: str | int) -> Any:
        async def send() -> Any:
            broker = await Broker.connect(self.url)
            try:
                return await broker.command(*words)
            finally:
                await broker.close()

        return portal().run(send())


class Expected:
    """What a job must be like."""

    def __init__(self, name: str | None, **members: Any) -> None:
        """Keep what is compared. Raises: UsageError for what cannot be."""
        unknown = [member for member in members if member not in _READ]
        if unknown:
            message = f"a job is compared by name, {', '.join(_READ)}, not by {unknown[0]!r}"
            raise UsageError(message)
        self._name = name
        self._members = members

    def fits(self, job: StoredJob) -> bool:
        """Tell whether a job is as expected."""
        return self._name in {None, job.name} and all(
            is_part(wanted, _READ[member](job)) for member, wanted in self._members.items()
        )

    def __str__(self) -> str:
        """Say what is expected."""
        members = [f"{member}={wanted!r}" for member, wanted in self._members.items()]
        if self._name is not None:
            members.insert(0, f"name={self._name!r}")
        return f"a job with {', '.join(members)}" if members else "any job"


def is_part(wanted: Any, value: Any) -> bool:
    """Tell whether all of ``wanted`` is in ``value``; members of mappings that it has not count."""
    if isinstance(wanted, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and is_part(part, value[key]) for key, part in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str | bytes):
        return (
            isinstance(value, Sequence)
            and len(value) == len(wanted)
            and all(map(is_part, wanted, value))
        )
    return bool(wanted == value)


def missing_job(
    queue: str, wanted: Expected, jobs: Sequence[StoredJob], *, found: int, count: int | None
) -> str:
    """Say which job is missing, and what is there."""
    number = "no job" if count is None else f"{found} jobs, not {count},"
    head = f"{number} in queue {queue!r} fits: expected {wanted}"
    if not jobs:
        return f"{head}; the queue is empty"
    rows = [f"  {_row(job)}" for job in jobs[:_SHOWN]]
    more = [f"  and {len(jobs) - _SHOWN} more"] if len(jobs) > _SHOWN else []
    return "\n".join([f"{head}; the queue has", *rows, *more])


def unexpected_job(queue: str, job: StoredJob) -> str:
    """Say which job is there and should not be."""
    return f"queue {queue!r} has {_row(job)}"


def _row(job: StoredJob) -> str:
    data = repr(job.data)
    if len(data) > _LONGEST:
        data = f"{data[:_LONGEST]}…"
    options = [
        f"{member}={value!r}"
        for member in ("delay", "priority")
        if (value := _READ[member](job))  # the usual ones are not shown
    ]
    return ", ".join([f"job {job.id} {job.name!r}", f"data={data}", *options])
