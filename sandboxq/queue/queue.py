"""A queue, as producers and operators see it."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple, Self, Unpack

from sandboxq.binary import WHOLE
from sandboxq.broker import (
    cancel,
    census,
    change,
    children,
    deduplicated,
    jobs,
    limits,
    meta,
    pause,
    remove,
    schedulers,
    state,
)
from sandboxq.broker.add import NewJob, add, new_job
from sandboxq.broker.codec import json_text, ms_from_seconds
from sandboxq.broker.connection import Broker
from sandboxq.broker.keys import DEFAULT_PREFIX, QueueKeys
from sandboxq.broker.usage import read_usage
from sandboxq.clock import SYSTEM_CLOCK, Clock
from sandboxq.dependencies import FIRST_PAGE, Dependencies, Page
from sandboxq.errors import BulkAddFailed, JobNotFound, QueueError, UsageError
from sandboxq.job import Job, JobOptions, JobState, UsageTotals
from sandboxq.queue import bulk
from sandboxq.queue.binary import checked_parts, part_of_data, text_and_parts, with_stored_parts
from sandboxq.queue.checks import (
    checked_flag,
    checked_priority,
    checked_text,
    checked_whole,
    positive_seconds,
    seconds_from,
)
from sandboxq.queue.child_list import ChildList, list_children
from sandboxq.queue.custom_events import FieldValue, publish_event
from sandboxq.queue.job import QueuedJob, job_from_add, members_of
from sandboxq.queue.options import AddOptions, checked_name, checked_options, checked_size
from sandboxq.queue.prometheus import prometheus_text
from sandboxq.queue.results import Results
from sandboxq.queue.schedulers import (
    Template,
    checked_scheduler_id,
    new_scheduler,
    upsert_scheduler,
)
from sandboxq.queue.traced import add_bulk_traced, add_traced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta

    from sandboxq.binary import Part
    from sandboxq.broker.schedulers import Scheduler
    from sandboxq.config import RateLimit
    from sandboxq.queue.bulk import Progress
    from sandboxq.queue.repeat import Repeat
    from sandboxq.queue.sync import SyncQueue
    from sandboxq.tracing import Tracing

# What ``add_bulk`` takes for one job.
BulkEntry = tuple[str, Any] | tuple[str, Any, AddOptions]

# The states of jobs that still have to be run.
_PENDING = (
    JobState.WAITING,
    JobState.PRIORITIZED,
    JobState.DELAYED,
    JobState.WAITING_CHILDREN,
)


class Draft(NamedTuple):
    """One job of an add, checked: as the script takes it, and as its caller gave it."""

    new: NewJob
    data: Any
    options: JobOptions
    parts: list[Part]


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
        tracing: Tracing | None = None,
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
        self._tracing = tracing

    @staticmethod
    def sync(
        name: str,
        url: str | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        tracing: Tracing | None = None,
    ) -> SyncQueue:
        """Return a queue with the same methods, blocking, for code without an event loop."""
        from sandboxq.queue.sync import SyncQueue  # noqa: PLC0415 - it imports this module

        return SyncQueue(name, url, prefix=prefix, tracing=tracing)

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
        """Add one job with JSON ``data``, arrays and bytes in it; options: see AddOptions.

        A ``job_id`` that exists, and ``deduplication``, return the job found; nothing is added.
        Raises: ParentNotFound, ParentCannotBeReplaced.
        """
        if self._tracing is None:
            (result,) = await self._add([(name, data, options)])
        else:
            (result,) = await add_traced(self._tracing, self.name, (name, data, options), self._add)
        if isinstance(result, QueueError):
            raise result
        return result

    async def add_bulk(self, entries: Iterable[BulkEntry]) -> list[QueuedJob]:
        """Add many jobs in order; each is ``(name, data)`` or ``(name, data, options)``.

        Raises: BulkAddFailed when single jobs were refused. When BrokerUnavailable comes in the
        middle, the jobs before it may have been added.
        """
        if self._tracing is None:
            return await self._add_all(entries)
        return await add_bulk_traced(self._tracing, self.name, list(entries), self._add_all)

    async def _add_all(self, entries: Iterable[BulkEntry]) -> list[QueuedJob]:
        results = await self._add(entries)
        added = [result for result in results if isinstance(result, QueuedJob)]
        if len(added) < len(results):
            raise BulkAddFailed(results)
        return added

    async def _add(self, entries: Iterable[BulkEntry]) -> list[QueuedJob | QueueError]:
        drafts = [self._draft(*entry) for entry in entries]
        now_ms = self._clock.now_ms()
        broker = await self._connected()
        wanted = [(self._keys, draft.new, draft.parts) for draft in drafts]
        new, _ = await with_stored_parts(broker, wanted)
        results = await add(broker, self._keys, new, now_ms=now_ms)
        return [
            result if isinstance(result, QueueError) else self._added(result, draft, now_ms)
            for result, draft in zip(results, drafts, strict=True)
        ]

    def _draft(self, name: str, data: Any, options: Mapping[str, Any] | None = None) -> Draft:
        checked = checked_options(options or {}, prefix=self._keys.prefix)
        text, parts = text_and_parts(data, "data")
        checked_size(text, checked_name(name), checked.size_limit)
        new = new_job(name, text, checked)
        return Draft(new, data, checked, checked_parts(parts, checked))

    def _added(self, job_id: str, draft: Draft, now_ms: int) -> QueuedJob:
        new, data, options, _ = draft
        return job_from_add(self, job_id, name=new.name, data=data, options=options, now_ms=now_ms)

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
        named = _checked_states(_names(states))
        broker = await self._connected()
        found = await jobs.jobs_in(
            broker, self._keys, named, start=start, end=end, ascending=ascending
        )
        return [self._bound(job) for job in found]

    async def counts(self, states: str | Iterable[str] | None = None) -> dict[str, int]:
        """Return how many jobs are in each state, or in these, by BullMQ's words (JobState's)."""
        counts = await jobs.counts_of(await self._connected(), self._keys)
        named = counts if states is None else _checked_states(_names(states))
        return {str(each): counts[each] for each in named}

    async def counts_per_priority(self, priorities: Iterable[int]) -> dict[int, int]:
        """Return how many jobs wait with each of these priorities; 0 is none."""
        checked = [checked_priority("priorities", each) for each in priorities]
        return await jobs.counts_per_priority(await self._connected(), self._keys, checked)

    async def delayed_count(self, until_ms: int | None = None) -> int:
        """Return how many jobs are delayed, or how many of them are due until then."""
        if until_ms is not None:
            checked_whole("until_ms", until_ms)
        return await jobs.delayed_count(await self._connected(), self._keys, until_ms)

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

    async def job_array(self, job_id: str, name: str = WHOLE) -> Any:
        """Return one numpy array of a job's data, by its place: ``pixels``, ``frames.0.pixels``.

        Raises: JobNotFound, BinaryMissing; UsageError when there is none of that name.
        """
        return await part_of_data(await self._connected(), self._keys, job_id, name)

    async def job_binary(self, job_id: str, name: str = WHOLE) -> bytes:
        """Return some bytes of a job's data; see ``job_array``."""
        found = await part_of_data(await self._connected(), self._keys, job_id, name)
        return bytes(found)

    async def logs(self, job_id: str, start: int = 0, end: int = -1) -> list[str]:
        """Return the lines ``start`` to ``end`` (inclusive; -1 is the last) of a job's log."""
        return await jobs.logs_of(await self._connected(), self._keys, job_id, start=start, end=end)

    async def get_workers(self) -> list[dict[str, str]]:
        """Return one row per connected worker, Node's or ours: CLIENT LIST's fields.

        ``name`` is the queue's, ``rawname`` the connection's.
        """
        return await census.workers_of(await self._connected(), self._keys)

    async def get_queue_events_clients(self) -> list[dict[str, str]]:
        """Return one row per connected QueueEvents, Node's or ours; see ``get_workers``."""
        return await census.listeners_of(await self._connected(), self._keys)

    async def get_meta(self) -> meta.QueueMeta:
        """Return the queue's settings."""
        return await meta.meta_of(await self._connected(), self._keys)

    async def version(self) -> str | None:
        """Return the library that opened the queue last, such as ``bullmq:6.7.0``."""
        return (await self.get_meta()).version

    async def get_metrics(
        self, kind: str = "completed", start: int = 0, end: int = -1
    ) -> meta.Metrics:
        """Return how many jobs ``completed`` or ``failed``, in all and in each minute.

        Minutes ``start`` to ``end`` (inclusive; 0 is the newest, -1 the oldest) are in ``data``.
        Workers count only when their metrics are on.
        """
        state = bulk.checked_state(kind, bulk.FINISHED_STATES)
        broker = await self._connected()
        return await meta.metrics_of(broker, self._keys, state, start=start, end=end)

    async def export_prometheus_metrics(self, labels: Mapping[str, str] | None = None) -> str:
        """Return counts and totals in Prometheus' text format, ``labels`` added to every line."""
        totals = {each: (await self.get_metrics(each)).count for each in ("completed", "failed")}
        return prometheus_text(self.name, await self.counts(), totals, labels or {})

    # ── parents and children ────────────────────────────────────────────────

    async def children_values(self, job_id: str) -> dict[str, Any]:
        """Return the values of a job's completed children, by ``<prefix>:<queue>:<id>``."""
        return await children.values_of(await self._connected(), self._keys, job_id)

    async def ignored_children_failures(self, job_id: str) -> dict[str, str]:
        """Return why children failed whose failure was ignored or let the parent continue."""
        return await children.ignored_of(await self._connected(), self._keys, job_id)

    async def failed_children(self, job_id: str) -> list[str]:
        """Return the keys of the children that failed the job, the first failure first."""
        return await children.failed_of(await self._connected(), self._keys, job_id)

    async def dependencies(
        self, job_id: str, *, count: int | None = None, cursor: str = FIRST_PAGE
    ) -> Dependencies:
        """Return all children of a job, or with ``count`` a page of about so many of each kind.

        ``cursor`` is that of the page before. A child may come twice when others end meanwhile.
        """
        page = None if count is None else Page.checked(cursor, count)
        return await children.dependencies_of(await self._connected(), self._keys, job_id, page)

    async def dependencies_count(self, job_id: str) -> dict[str, int]:
        """Return how many children of each kind a job has: see Dependencies."""
        return await children.counts_of(await self._connected(), self._keys, job_id)

    async def get_dependencies(
        self, job_id: str, kind: str, start: int = 0, end: int = -1
    ) -> ChildList:
        """Return the children ``start`` to ``end`` (inclusive; -1 is the last) of one kind.

        The kinds are the fields of Dependencies. Only ``failed`` ones have an order of their own.
        """
        broker = await self._connected()
        return await list_children(broker, self._keys, job_id, kind, start=start, end=end)

    async def remove_child_dependency(self, job_id: str) -> bool:
        """Make a job nobody's child; False when no parent waits for it.

        A parent whose last pending child it was goes on. Raises: JobNotFound, ParentNotFound.
        """
        return await children.unlink(await self._connected(), self._keys, job_id)

    async def remove_unprocessed_children(
        self, job_id: str, *, progress: Callable[[int], None] | None = None
    ) -> int:
        """Remove a job's children that have not ended, and theirs; return how many.

        Those that are being processed stay, and those that failed without telling the parent.
        ``progress`` hears the number so far after each hundred. The job itself goes on.
        """
        broker = await self._connected()
        return await children.prune(broker, self._keys, job_id, progress or _hear_nothing)

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

    async def cancel(
        self, job_id: str, reason: str | None = None, *, grace: float | timedelta = 5.0
    ) -> str | None:
        """End a job wherever it is; return the worker that was running it, None when none was.

        What waits, delayed or for children too, fails at once. A worker tells the code that it runs
        (``job.cancelled``; CancelledError in ``async def``), and kills it when it has not ended
        ``grace`` seconds later. The job fails as JobCancelled, saying who asked and why, and is not
        tried again. This returns as soon as the worker knows; ``result`` waits for the end.
        Raises: JobNotFound; JobNotInState when it has ended; JobBelongsToScheduler; CancelNotHeard
        when it is active, but no worker of sandboxq has it.
        """
        checked_text("job_id", job_id)
        if reason is not None:
            checked_text("reason", reason)
        who = f"cancelled by {socket.gethostname()}:{os.getpid()}"
        return await cancel.cancel(
            await self._connected(),
            self._keys,
            job_id,
            reason=who if reason is None else f"{who}: {reason}",
            grace=seconds_from("grace", grace),
            now_ms=self._clock.now_ms(),
        )

    async def obliterate(self, *, force: bool = False) -> None:
        """Pause the queue, then remove it with all its jobs, except those that wait for children.

        ``force`` removes active jobs too; their workers find their locks gone.
        Raises: QueueHasActiveJobs; the queue stays paused then.
        """
        broker = await self._connected()
        await pause.pause(broker, self._keys)
        await remove.obliterate(broker, self._keys, force=force)

    async def usage(self) -> UsageTotals:
        """Return what sandboxq's workers have used for this queue's jobs; seconds late."""
        return await read_usage(await self._connected(), self._keys)

    async def trim_events(self, max_length: int) -> int:
        """Shorten the event stream to about so many entries; return how many went."""
        checked_whole("max_length", max_length)
        return await meta.trim_events(await self._connected(), self._keys, max_length)

    # ── all jobs of a state ─────────────────────────────────────────────────
    # ``progress`` is called with the number of jobs done so far, after each hundred.

    async def drain(self, *, delayed: bool = False, progress: Progress | None = None) -> int:
        """Remove all jobs that wait, ``delayed`` ones too if so; return how many.

        The next iterations of schedulers stay.
        """
        broker = await self._connected()
        return await bulk.drain(broker, self._keys, delayed=delayed, progress=progress)

    async def clean(
        self,
        grace: float | timedelta,
        state: str = "completed",
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Remove jobs of a state that nobody touched for ``grace``, oldest first; return their ids.

        ``limit`` is how many at most. Locked jobs and the next iterations of schedulers stay.
        """
        return await bulk.clean(
            await self._connected(),
            self._keys,
            state,
            grace=grace,
            now_ms=self._clock.now_ms(),
            limit=limit,
            progress=progress,
        )

    async def retry_jobs(
        self,
        state: str = "failed",
        *,
        until_ms: int | None = None,
        limit: int | None = None,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """Let failed, or completed, jobs wait again, oldest first; return how many did.

        Those that finished after ``until_ms`` (default: now) stay, and all beyond ``limit``. Unlike
        Node's, jobs keep their priority and lifo. ``reset_…`` as in ``retry``.
        """
        resets = bulk.checked_resets(
            reset_attempts_made=reset_attempts_made, reset_attempts_started=reset_attempts_started
        )
        return await bulk.retry_jobs(
            await self._connected(),
            self._keys,
            state,
            until_ms=self._clock.now_ms() if until_ms is None else until_ms,
            limit=limit,
            resets=resets,
            progress=progress,
        )

    async def promote_jobs(
        self, *, limit: int | None = None, progress: Progress | None = None
    ) -> int:
        """Let delayed jobs wait from now on, the earliest first; return how many did.

        All beyond ``limit`` stay. Unlike Node's, jobs keep their priority.
        """
        broker = await self._connected()
        return await bulk.promote_jobs(broker, self._keys, limit=limit, progress=progress)

    async def remove_orphaned_jobs(
        self, *, limit: int | None = None, progress: Progress | None = None
    ) -> list[str]:
        """Remove jobs that no state holds, ``limit`` at most; return their ids.

        Walks over the whole database. Unlike Node's, it takes nothing for a job that is none.
        """
        broker = await self._connected()
        return await bulk.remove_orphaned_jobs(broker, self._keys, limit=limit, progress=progress)

    # ── one job, whoever runs it ────────────────────────────────────────────

    async def promote(self, job_id: str) -> None:
        """Let a delayed job wait from now on. Raises: JobNotFound, JobNotInState."""
        checked_text("job_id", job_id)
        await change.promote(await self._connected(), self._keys, job_id)

    async def change_delay(self, job_id: str, delay: float | timedelta) -> None:
        """Let a delayed job wait so long from now. Raises: JobNotFound, JobNotInState."""
        checked_text("job_id", job_id)
        delay_ms = ms_from_seconds(seconds_from("delay", delay))
        broker, now_ms = await self._connected(), self._clock.now_ms()
        await change.change_delay(broker, self._keys, job_id, delay_ms=delay_ms, now_ms=now_ms)

    async def change_priority(self, job_id: str, priority: int, *, lifo: bool = False) -> None:
        """Give a job another priority; 0 is none, and before all others.

        One that waits goes behind all that have it, or in front of them when ``lifo``.
        Raises: JobNotFound.
        """
        checked_text("job_id", job_id)
        priority, is_first = checked_priority("priority", priority), checked_flag("lifo", lifo)
        await change.change_priority(
            await self._connected(), self._keys, job_id, priority=priority, is_first=is_first
        )

    async def retry(
        self,
        job_id: str,
        state: str = "failed",
        *,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
    ) -> None:
        """Let a failed, or completed, job wait again.

        Without ``reset_attempts_made`` a job whose attempts are used up has one more.
        Raises: JobNotFound, JobNotInState.
        """
        checked_text("job_id", job_id)
        checked = bulk.checked_state(state, bulk.FINISHED_STATES)
        resets = bulk.checked_resets(
            reset_attempts_made=reset_attempts_made, reset_attempts_started=reset_attempts_started
        )
        broker = await self._connected()
        await change.retry(broker, self._keys, job_id, state=checked, resets=resets)

    async def update_job_data(self, job_id: str, data: Any) -> None:
        """Replace a job's data, any JSON. Raises: JobNotFound."""
        await self._update(job_id, "data", json_text(data, "data"))

    async def update_job_progress(self, job_id: str, progress: Any) -> None:
        """Say how far a job is, any JSON. Raises: JobNotFound."""
        await self._update(job_id, "progress", json_text(progress, "progress"))

    async def add_job_log(self, job_id: str, line: str, *, keep_logs: int | None = None) -> int:
        """Add a line to a job's log, of which ``keep_logs`` stay; return how many it has.

        Raises: JobNotFound.
        """
        if line != "":
            checked_text("line", line)
        keep = checked_whole("keep_logs", keep_logs or 0)
        await self._update(job_id, "log", line, keep_logs=keep)
        return await change.count_logs(await self._connected(), self._keys, job_id)

    async def clear_job_logs(self, job_id: str, *, keep_logs: int = 0) -> None:
        """Remove all but the newest ``keep_logs`` lines of a job's log."""
        checked_text("job_id", job_id)
        keep = checked_whole("keep_logs", keep_logs)
        await change.clear_logs(await self._connected(), self._keys, job_id, keep=keep)

    async def _update(self, job_id: str, kind: str, payload: str, *, keep_logs: int = 0) -> None:
        checked_text("job_id", job_id)
        broker = await self._connected()
        await change.update(broker, self._keys, job_id, kind, payload, keep_logs=keep_logs)

    # ── deduplication ───────────────────────────────────────────────────────

    async def deduplication_job_id(self, deduplication_id: str) -> str | None:
        """Return the id of the job because of which such jobs are not added, None when none is."""
        checked_text("deduplication_id", deduplication_id)
        return await deduplicated.job_id_of(await self._connected(), self._keys, deduplication_id)

    async def remove_deduplication_key(
        self, deduplication_id: str, *, job_id: str | None = None
    ) -> bool:
        """Let the next add with this id add a job; False when it would have anyway.

        With ``job_id``, only if that is the job because of which it would not.
        """
        checked_text("deduplication_id", deduplication_id)
        return await deduplicated.release(
            await self._connected(), self._keys, deduplication_id, job_id=job_id
        )

    # ── limits of all workers together ──────────────────────────────────────

    async def set_global_concurrency(self, concurrency: int) -> None:
        """Let at most so many jobs of the queue be active at once."""
        checked_whole("concurrency", concurrency, least=1)
        await limits.set_limits(await self._connected(), self._keys, concurrency=concurrency)

    async def get_global_concurrency(self) -> int | None:
        """Return how many jobs may be active at once, None when any number may."""
        return (await self.get_meta()).concurrency

    async def remove_global_concurrency(self) -> bool:
        """Let any number of jobs be active at once; False when it may already."""
        return bool(await limits.set_limits(await self._connected(), self._keys, concurrency=None))

    async def is_maxed(self) -> bool:
        """Tell whether as many jobs are active as the global concurrency allows."""
        return await limits.is_maxed(await self._connected(), self._keys)

    async def set_global_rate_limit(self, max_jobs: int, duration: float | timedelta) -> None:
        """Let at most so many jobs be claimed in each ``duration``, by all workers together."""
        checked_whole("max_jobs", max_jobs, least=1)
        duration_ms = ms_from_seconds(positive_seconds("duration", duration))
        broker = await self._connected()
        await limits.set_limits(broker, self._keys, max=max_jobs, duration=duration_ms)

    async def get_global_rate_limit(self) -> RateLimit | None:
        """Return how many jobs may be claimed in which time, None when any number may."""
        return (await self.get_meta()).rate_limit

    async def remove_global_rate_limit(self) -> bool:
        """Undo ``set_global_rate_limit``; False when there was none."""
        broker = await self._connected()
        return bool(await limits.set_limits(broker, self._keys, max=None, duration=None))

    async def rate_limit(self, duration: float | timedelta) -> None:
        """Let no worker claim for so long; Node's heed it if they, or the queue, have a limit."""
        duration_ms = ms_from_seconds(positive_seconds("duration", duration))
        await limits.close_window(await self._connected(), self._keys, duration_ms=duration_ms)

    async def rate_limit_ttl(self, max_jobs: int | None = None) -> float:
        """Return for how many seconds the rate limit lets nobody claim, 0.0 when it lets.

        ``max_jobs`` is a worker's own maximum; left out, the queue's counts.
        """
        if max_jobs is not None:
            checked_whole("max_jobs", max_jobs, least=1)
        broker = await self._connected()
        return await limits.window_ttl_ms(broker, self._keys, max_jobs=max_jobs) / 1000

    async def remove_rate_limit_key(self) -> bool:
        """Begin a new rate limit window now; False when there was none."""
        return await limits.open_window(await self._connected(), self._keys)

    # ── schedulers ──────────────────────────────────────────────────────────

    async def upsert_scheduler(
        self,
        scheduler_id: str,
        repeat: Repeat,
        *,
        name: str | None = None,
        data: Any = None,
        options: AddOptions | None = None,
    ) -> QueuedJob:
        """Make a scheduler or change it, and return the next job that it made.

        Its jobs are called ``name``, or by its id; None for ``data`` is ``{}``. They cannot have
        the options delay, job_id, timestamp_ms, parent and deduplication.
        Raises: SchedulerSlotTaken when jobs of an earlier scheduler have all of its next times.
        """
        now_ms = self._clock.now_ms()
        named = checked_scheduler_id(scheduler_id) if name is None else name
        template = Template(named, data, options, keys=self._keys)
        new = new_scheduler(scheduler_id, repeat, template, now_ms=now_ms)
        job_id, delay_ms = await upsert_scheduler(
            await self._connected(), self._keys, new, repeat, now_ms=now_ms
        )
        return QueuedJob(
            id=job_id,
            name=template.name,
            data=template.data,
            opts=template.options,
            queue_name=self.name,
            timestamp_ms=now_ms,
            delay_ms=delay_ms,
            priority=template.options.priority,
            scheduler_id=scheduler_id,
            queue=self,
        )

    async def get_scheduler(self, scheduler_id: str) -> Scheduler | None:
        """Return a scheduler, None when there is none."""
        return await schedulers.scheduler_of(await self._connected(), self._keys, scheduler_id)

    async def get_schedulers(
        self, start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[Scheduler]:
        """Return the schedulers ``start`` to ``end`` (inclusive; -1 is the last).

        The one that runs last comes first, or last when ``ascending``.
        """
        return await schedulers.schedulers_in(
            await self._connected(), self._keys, start=start, end=end, ascending=ascending
        )

    async def count_schedulers(self) -> int:
        """Return how many schedulers there are."""
        return await schedulers.count_schedulers(await self._connected(), self._keys)

    async def remove_scheduler(self, scheduler_id: str) -> bool:
        """Remove a scheduler and its delayed job; False means that there is none.

        A job of it that waits or is being processed stays, and makes no other.
        """
        return await schedulers.remove(await self._connected(), self._keys, scheduler_id)

    # ── custom events ───────────────────────────────────────────────────────

    async def publish_event(
        self,
        name: str,
        fields: Mapping[str, FieldValue] | None = None,
        *,
        max_len: int | None = None,
    ) -> str:
        """Tell everybody who follows the queue's events of one of your own; returns its id.

        ``name`` must not be one of BullMQ's events. ``max_len`` cuts the whole stream to about so
        many events; left out, it keeps as many as the queue is set to.
        """
        return await publish_event(
            await self._connected(), self._keys, name, fields, max_len=max_len
        )

    def _bound(self, job: Job) -> QueuedJob:
        return QueuedJob(**members_of(job), queue=self)

    async def _connected(self) -> Broker:
        if self._broker is None:
            async with self._connecting:
                if self._broker is None:
                    self._broker = await Broker.connect(self._url)
        return self._broker


def _hear_nothing(_: int) -> None:
    return


async def queue_names(broker: Broker, prefix: str = DEFAULT_PREFIX) -> list[str]:
    """Return the names of all queues under the prefix, sorted; walks over the whole database."""
    return await census.queue_names(broker, prefix=prefix)


def _names(states: str | Iterable[str]) -> list[str]:
    return [states] if isinstance(states, str) else list(states)


def _checked_states(names: Iterable[str]) -> list[JobState]:
    try:
        return [jobs.STATES[jobs.STATES.index(JobState(name))] for name in names]
    except ValueError as error:
        message = f"states must be among {', '.join(jobs.STATES)}: {error}"
        raise UsageError(message) from error
