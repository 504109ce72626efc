"""A queue, as producers and operators see it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, Unpack

from sandboxq.broker import census, jobs, pause, remove, state
from sandboxq.broker.add import NewJob, add, new_job
from sandboxq.broker.codec import json_text, ms_from_seconds
from sandboxq.broker.connection import Broker
from sandboxq.broker.keys import DEFAULT_PREFIX, QueueKeys
from sandboxq.clock import SYSTEM_CLOCK, Clock
from sandboxq.errors import BulkAddFailed, JobNotFound, QueueError, UsageError
from sandboxq.job import Job, JobOptions, JobState
from sandboxq.queue.job import QueuedJob, members_of
from sandboxq.queue.options import (
    AddOptions,
    checked_name,
    checked_options,
    checked_size,
    seconds_from,
)
from sandboxq.queue.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

    from sandboxq.queue.sync import SyncQueue

# What ``add_bulk`` takes for one job.
BulkEntry = tuple[str, Any] | tuple[str, Any, AddOptions]

# The states of jobs that still have to be run.
_PENDING = (
    JobState.WAITING,
    JobState.PRIORITIZED,
    JobState.DELAYED,
    JobState.WAITING_CHILDREN,
)


class Queue:
    """A queue by name. Nothing is sent before the first method is awaited.

    Durations are seconds or ``timedelta``. Every method raises BrokerUnavailable when Redis cannot
    be reached, and UsageError, before anything is written, for an argument that cannot be right.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        broker: Broker | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Name a queue of the Redis at ``url`` (see Broker.connect), or of an open ``broker``.

        A broker that was given stays open when the queue is closed.
        """
        self._keys = QueueKeys(name, prefix)
        self._url = url
        self._clock = clock
        self._broker = broker
        self._owns_broker = broker is None
        self._connecting = asyncio.Lock()
        self._results: Results | None = None

    @staticmethod
    def sync(name: str, url: str | None = None, *, prefix: str = DEFAULT_PREFIX) -> SyncQueue:
        """Return a queue with the same methods, blocking, for code without an event loop."""
        from sandboxq.queue.sync import SyncQueue  # noqa: PLC0415 - it imports this module

        return SyncQueue(name, url, prefix=prefix)

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._keys.queue

    @property
    def keys(self) -> QueueKeys:
        """The names of the queue's keys."""
        return self._keys

    async def __aenter__(self) -> Self:
        """Connect."""
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def connect(self) -> None:
        """Connect now instead of when the first method is awaited."""
        await self._connected()

    async def close(self) -> None:
        """Close the connections that the queue opened; may be called twice."""
        if self._results is not None:
            await self._results.close()
            self._results = None
        if self._owns_broker and self._broker is not None:
            broker, self._broker = self._broker, None
            await broker.close()

    # ── adding ──────────────────────────────────────────────────────────────

    async def add(self, name: str, data: Any, **options: Unpack[AddOptions]) -> QueuedJob:
        """Add one job with JSON ``data``; the options are those of AddOptions.

        A ``job_id`` that exists, and ``deduplication``, return the job found; nothing is added.
        Raises: ParentNotFound, ParentCannotBeReplaced.
        """
        (result,) = await self._add([(name, data, options)])
        if isinstance(result, QueueError):
            raise result
        return result

    async def add_bulk(self, entries: Iterable[BulkEntry]) -> list[QueuedJob]:
        """Add many jobs in order; each is ``(name, data)`` or ``(name, data, options)``.

        Raises: BulkAddFailed when single jobs were refused. When BrokerUnavailable comes in the
        middle, the jobs before it may have been added.
        """
        results = await self._add(entries)
        added = [result for result in results if isinstance(result, QueuedJob)]
        if len(added) < len(results):
            raise BulkAddFailed(results)
        return added

    async def _add(self, entries: Iterable[BulkEntry]) -> list[QueuedJob | QueueError]:
        drafts = [self._draft(*entry) for entry in entries]
        now_ms = self._clock.now_ms()
        broker = await self._connected()
        results = await add(broker, self._keys, [draft[0] for draft in drafts], now_ms=now_ms)
        return [
            result if isinstance(result, QueueError) else self._added(result, *draft, now_ms)
            for result, draft in zip(results, drafts, strict=True)
        ]

    def _draft(
        self, name: str, data: Any, options: Mapping[str, Any] | None = None
    ) -> tuple[NewJob, Any, JobOptions]:
        checked = checked_options(options or {}, prefix=self._keys.prefix)
        text = json_text(data, "data")
        checked_size(text, checked_name(name), checked.size_limit)
        return new_job(name, text, checked), data, checked

    def _added(
        self, job_id: str, new: NewJob, data: Any, options: JobOptions, now_ms: int
    ) -> QueuedJob:
        return QueuedJob(
            id=job_id,
            name=new.name,
            data=data,
            opts=options,
            queue_name=self.name,
            timestamp_ms=now_ms if options.timestamp_ms is None else options.timestamp_ms,
            delay_ms=ms_from_seconds(options.delay),
            priority=options.priority,
            queue=self,
        )

    # ── looking ─────────────────────────────────────────────────────────────

    async def get_job(self, job_id: str) -> QueuedJob | None:
        """Return a job, None when there is none."""
        job = await jobs.job_of(await self._connected(), self._keys, job_id)
        return None if job is None else self._bound(job)

    async def read_job(self, job_id: str) -> QueuedJob:
        """Return a job. Raises: JobNotFound."""
        job = await self.get_job(job_id)
        if job is None:
            message = f"job {job_id} does not exist in queue {self.name}"
            raise JobNotFound(message)
        return job

    async def get_jobs(
        self,
        states: str | Iterable[str],
        start: int = 0,
        end: int = -1,
        *,
        ascending: bool = False,
    ) -> list[QueuedJob]:
        """Return the jobs ``start`` to ``end`` (inclusive; -1 is the last) of each of the states.

        Newest first, or oldest first when ``ascending``.
        """
        named = [states] if isinstance(states, str) else list(states)
        broker = await self._connected()
        found = await jobs.jobs_in(
            broker, self._keys, _checked_states(named), start=start, end=end, ascending=ascending
        )
        return [self._bound(job) for job in found]

    async def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state, by BullMQ's words (those of JobState)."""
        return await jobs.counts_of(await self._connected(), self._keys)

    async def count(self) -> int:
        """Return how many jobs still have to be run; active ones are not among them."""
        counts = await self.counts()
        return sum(counts[each] for each in _PENDING)

    async def job_state(self, job_id: str) -> JobState:
        """Return the state that holds a job, UNKNOWN when there is none."""
        return await state.state_of(await self._connected(), self._keys, job_id)

    async def result(self, job_id: str, timeout: float | timedelta | None = None) -> Any:
        """Wait for a job to finish and return its value; see QueuedJob.result."""
        seconds = None if timeout is None else seconds_from("timeout", timeout)
        broker = await self._connected()
        if self._results is None:
            self._results = Results(broker, self._keys)
        return await self._results.wait(job_id, seconds)

    async def logs(self, job_id: str, start: int = 0, end: int = -1) -> list[str]:
        """Return the lines ``start`` to ``end`` (inclusive; -1 is the last) of a job's log."""
        return await jobs.logs_of(await self._connected(), self._keys, job_id, start=start, end=end)

    async def get_workers(self) -> list[dict[str, str]]:
        """Return one row per connected worker, Node's or ours: CLIENT LIST's fields.

        ``name`` is the queue's, ``rawname`` the connection's.
        """
        return await census.workers_of(await self._connected(), self._keys)

    # ── operating ───────────────────────────────────────────────────────────

    async def pause(self) -> None:
        """Let no worker claim any more; jobs can still be added."""
        await pause.pause(await self._connected(), self._keys)

    async def resume(self) -> None:
        """Undo ``pause``."""
        await pause.resume(await self._connected(), self._keys)

    async def is_paused(self) -> bool:
        """Tell whether the queue is paused."""
        return await pause.is_paused(await self._connected(), self._keys)

    async def remove(self, job_id: str, *, with_children: bool = True) -> bool:
        """Remove a job wherever it is, and its children; False means that there is none.

        Raises: JobLocked when it, or a child that has not finished, is being processed;
        JobBelongsToScheduler. Nothing was removed then.
        """
        broker = await self._connected()
        return await remove.remove(broker, self._keys, job_id, with_children=with_children)

    async def obliterate(self, *, force: bool = False) -> None:
        """Pause the queue, then remove it with all its jobs, except those that wait for children.

        ``force`` removes active jobs too; their workers find their locks gone.
        Raises: QueueHasActiveJobs; the queue stays paused then.
        """
        broker = await self._connected()
        await pause.pause(broker, self._keys)
        await remove.obliterate(broker, self._keys, force=force)

    def _bound(self, job: Job) -> QueuedJob:
        return QueuedJob(**members_of(job), queue=self)

    async def _connected(self) -> Broker:
        if self._broker is None:
            async with self._connecting:
                if self._broker is None:
                    self._broker = await Broker.connect(self._url)
        return self._broker


async def queue_names(broker: Broker, prefix: str = DEFAULT_PREFIX) -> list[str]:
    """Return the names of all queues under the prefix, sorted; walks over the whole database."""
    return await census.queue_names(broker, prefix=prefix)


def _checked_states(names: Iterable[str]) -> list[JobState]:
    try:
        return [jobs.STATES[jobs.STATES.index(JobState(name))] for name in names]
    except ValueError as error:
        message = f"states must be among {', '.join(jobs.STATES)}: {error}"
        raise UsageError(message) from error
