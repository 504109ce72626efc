"""The queue for code without an event loop: the methods of Queue, blocking."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from sandboxq.binary import WHOLE
from sandboxq.broker.keys import DEFAULT_PREFIX
from sandboxq.dependencies import FIRST_PAGE
from sandboxq.job import Job, JobState, UsageTotals
from sandboxq.queue.job import check_data_size, members_of
from sandboxq.queue.portal import portal
from sandboxq.queue.queue import BulkEntry, Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from datetime import timedelta

    from sandboxq.broker.meta import Metrics, QueueMeta
    from sandboxq.broker.schedulers import Scheduler
    from sandboxq.config import RateLimit
    from sandboxq.dependencies import Dependencies
    from sandboxq.queue.bulk import Progress
    from sandboxq.queue.child_list import ChildList
    from sandboxq.queue.custom_events import FieldValue
    from sandboxq.queue.options import AddOptions
    from sandboxq.queue.repeat import Repeat
    from sandboxq.tracing import Tracing

T = TypeVar("T")

# Queues of the processes that this one was forked from; see portal.py for why they are kept.
_of_parents: list[Queue] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncJob(Job):
    """QueuedJob for code without an event loop."""

    queue: SyncQueue = field(repr=False, compare=False)

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """See QueuedJob.result."""
        return self.queue.result(self.id, timeout)

    def array(self, name: str = WHOLE) -> Any:
        """See QueuedJob.array."""
        return self.queue.job_array(self.id, name)

    def binary(self, name: str = WHOLE) -> bytes:
        """See QueuedJob.binary."""
        return self.queue.job_binary(self.id, name)

    def state(self) -> JobState:
        """See QueuedJob.state."""
        return self.queue.job_state(self.id)

    def refresh(self) -> SyncJob:
        """See QueuedJob.refresh."""
        return self.queue.read_job(self.id)

    def remove(self, *, with_children: bool = True) -> bool:
        """See QueuedJob.remove."""
        return self.queue.remove(self.id, with_children=with_children)

    def cancel(self, reason: str | None = None, *, grace: float | timedelta = 5.0) -> str | None:
        """See QueuedJob.cancel."""
        return self.queue.cancel(self.id, reason, grace=grace)

    def logs(self, start: int = 0, end: int = -1) -> list[str]:
        """See QueuedJob.logs."""
        return self.queue.logs(self.id, start, end)

    def promote(self) -> None:
        """See QueuedJob.promote."""
        self.queue.promote(self.id)

    def change_delay(self, delay: float | timedelta) -> None:
        """See QueuedJob.change_delay."""
        self.queue.change_delay(self.id, delay)

    def change_priority(self, priority: int, *, lifo: bool = False) -> None:
        """See QueuedJob.change_priority."""
        self.queue.change_priority(self.id, priority, lifo=lifo)

    def retry(
        self,
        state: str = "failed",
        *,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
    ) -> None:
        """See QueuedJob.retry."""
        self.queue.retry(
            self.id,
            state,
            reset_attempts_made=reset_attempts_made,
            reset_attempts_started=reset_attempts_started,
        )

    def update_data(self, data: Any) -> None:
        """See QueuedJob.update_data."""
        check_data_size(self, data)
        self.queue.update_job_data(self.id, data)

    def update_progress(self, progress: Any) -> None:
        """See QueuedJob.update_progress."""
        self.queue.update_job_progress(self.id, progress)

    def log(self, line: str) -> int:
        """See QueuedJob.log."""
        return self.queue.add_job_log(self.id, line, keep_logs=self.opts.keep_logs)

    def clear_logs(self, *, keep_logs: int = 0) -> None:
        """See QueuedJob.clear_logs."""
        self.queue.clear_job_logs(self.id, keep_logs=keep_logs)

    def remove_deduplication_key(self) -> bool:
        """See QueuedJob.remove_deduplication_key."""
        if self.deduplication_id is None:
            return False
        return self.queue.remove_deduplication_key(self.deduplication_id, job_id=self.id)

    def children_values(self) -> dict[str, Any]:
        """See QueuedJob.children_values."""
        return self.queue.children_values(self.id)

    def ignored_children_failures(self) -> dict[str, str]:
        """See QueuedJob.ignored_children_failures."""
        return self.queue.ignored_children_failures(self.id)

    def failed_children(self) -> list[str]:
        """See QueuedJob.failed_children."""
        return self.queue.failed_children(self.id)

    def dependencies(self, *, count: int | None = None, cursor: str = FIRST_PAGE) -> Dependencies:
        """See QueuedJob.dependencies."""
        return self.queue.dependencies(self.id, count=count, cursor=cursor)

    def dependencies_count(self) -> dict[str, int]:
        """See QueuedJob.dependencies_count."""
        return self.queue.dependencies_count(self.id)

    def remove_child_dependency(self) -> bool:
        """See QueuedJob.remove_child_dependency."""
        return self.queue.remove_child_dependency(self.id)

    def remove_unprocessed_children(self, *, progress: Callable[[int], None] | None = None) -> int:
        """See QueuedJob.remove_unprocessed_children."""
        return self.queue.remove_unprocessed_children(self.id, progress=progress)


class SyncQueue:
    """Queue for code without an event loop; every method is documented there.

    Any thread may use it. All queues of a process share one background thread. After a fork the
    child connects anew by itself; a call that another thread was making is not carried over.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        tracing: Tracing | None = None,
    ) -> None:
        """See Queue."""
        self._arguments = (name, url, prefix, tracing)
        self._pid = os.getpid()
        self._queue = Queue(name, url, prefix=prefix, tracing=tracing)

    def __enter__(self) -> Self:
        """Connect."""
        self._run(self._here().connect())
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._queue.name

    def close(self) -> None:
        """See Queue.close."""
        self._run(self._here().close())

    def add(self, name: str, data: Any, **options: Unpack[AddOptions]) -> SyncJob:
        """See Queue.add."""
        return self._bound(self._run(self._here().add(name, data, **options)))

    def add_bulk(self, entries: Iterable[BulkEntry]) -> list[SyncJob]:
        """See Queue.add_bulk."""
        return [self._bound(job) for job in self._run(self._here().add_bulk(entries))]

    def get_job(self, job_id: str) -> SyncJob | None:
        """See Queue.get_job."""
        job = self._run(self._here().get_job(job_id))
        return None if job is None else self._bound(job)

    def read_job(self, job_id: str) -> SyncJob:
        """See Queue.read_job."""
        return self._bound(self._run(self._here().read_job(job_id)))

    def get_jobs(
        self, states: str | Iterable[str], start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[SyncJob]:
        """See Queue.get_jobs."""
        jobs = self._run(self._here().get_jobs(states, start, end, ascending=ascending))
        return [self._bound(job) for job in jobs]

    def counts(self, states: str | Iterable[str] | None = None) -> dict[str, int]:
        """See Queue.counts."""
        return self._run(self._here().counts(states))

    def count(self) -> int:
        """See Queue.count."""
        return self._run(self._here().count())

    def job_state(self, job_id: str) -> JobState:
        """See Queue.job_state."""
        return self._run(self._here().job_state(job_id))

    def result(self, job_id: str, timeout: float | timedelta | None = None) -> Any:
        """See Queue.result."""
        return self._run(self._here().result(job_id, timeout))

    def job_array(self, job_id: str, name: str = WHOLE) -> Any:
        """See Queue.job_array."""
        return self._run(self._here().job_array(job_id, name))

    def job_binary(self, job_id: str, name: str = WHOLE) -> bytes:
        """See Queue.job_binary."""
        return self._run(self._here().job_binary(job_id, name))

    def logs(self, job_id: str, start: int = 0, end: int = -1) -> list[str]:
        """See Queue.logs."""
        return self._run(self._here().logs(job_id, start, end))

    def children_values(self, job_id: str) -> dict[str, Any]:
        """See Queue.children_values."""
        return self._run(self._here().children_values(job_id))

    def ignored_children_failures(self, job_id: str) -> dict[str, str]:
        """See Queue.ignored_children_failures."""
        return self._run(self._here().ignored_children_failures(job_id))

    def failed_children(self, job_id: str) -> list[str]:
        """See Queue.failed_children."""
        return self._run(self._here().failed_children(job_id))

    def dependencies(
        self, job_id: str, *, count: int | None = None, cursor: str = FIRST_PAGE
    ) -> Dependencies:
        """See Queue.dependencies."""
        return self._run(self._here().dependencies(job_id, count=count, cursor=cursor))

    def dependencies_count(self, job_id: str) -> dict[str, int]:
        """See Queue.dependencies_count."""
        return self._run(self._here().dependencies_count(job_id))

    def get_dependencies(self, job_id: str, kind: str, start: int = 0, end: int = -1) -> ChildList:
        """See Queue.get_dependencies."""
        return self._run(self._here().get_dependencies(job_id, kind, start, end))

    def remove_child_dependency(self, job_id: str) -> bool:
        """See Queue.remove_child_dependency."""
        return self._run(self._here().remove_child_dependency(job_id))

    def remove_unprocessed_children(
        self, job_id: str, *, progress: Callable[[int], None] | None = None
    ) -> int:
        """See Queue.remove_unprocessed_children."""
        return self._run(self._here().remove_unprocessed_children(job_id, progress=progress))

    def get_workers(self) -> list[dict[str, str]]:
        """See Queue.get_workers."""
        return self._run(self._here().get_workers())

    def pause(self) -> None:
        """See Queue.pause."""
        self._run(self._here().pause())

    def resume(self) -> None:
        """See Queue.resume."""
        self._run(self._here().resume())

    def is_paused(self) -> bool:
        """See Queue.is_paused."""
        return self._run(self._here().is_paused())

    def remove(self, job_id: str, *, with_children: bool = True) -> bool:
        """See Queue.remove."""
        return self._run(self._here().remove(job_id, with_children=with_children))

    def cancel(
        self, job_id: str, reason: str | None = None, *, grace: float | timedelta = 5.0
    ) -> str | None:
        """See Queue.cancel."""
        return self._run(self._here().cancel(job_id, reason, grace=grace))

    def obliterate(self, *, force: bool = False) -> None:
        """See Queue.obliterate."""
        self._run(self._here().obliterate(force=force))

    def counts_per_priority(self, priorities: Iterable[int]) -> dict[int, int]:
        """See Queue.counts_per_priority."""
        return self._run(self._here().counts_per_priority(priorities))

    def delayed_count(self, until_ms: int | None = None) -> int:
        """See Queue.delayed_count."""
        return self._run(self._here().delayed_count(until_ms))

    def get_queue_events_clients(self) -> list[dict[str, str]]:
        """See Queue.get_queue_events_clients."""
        return self._run(self._here().get_queue_events_clients())

    def get_meta(self) -> QueueMeta:
        """See Queue.get_meta."""
        return self._run(self._here().get_meta())

    def version(self) -> str | None:
        """See Queue.version."""
        return self._run(self._here().version())

    def get_metrics(self, kind: str = "completed", start: int = 0, end: int = -1) -> Metrics:
        """See Queue.get_metrics."""
        return self._run(self._here().get_metrics(kind, start, end))

    def export_prometheus_metrics(self, labels: Mapping[str, str] | None = None) -> str:
        """See Queue.export_prometheus_metrics."""
        return self._run(self._here().export_prometheus_metrics(labels))

    def usage(self) -> UsageTotals:
        """See Queue.usage."""
        return self._run(self._here().usage())

    def trim_events(self, max_length: int) -> int:
        """See Queue.trim_events."""
        return self._run(self._here().trim_events(max_length))

    # ── all jobs of a state ─────────────────────────────────────────────────
    # ``progress`` is called on the background thread, where no blocking method may be called.

    def drain(self, *, delayed: bool = False, progress: Progress | None = None) -> int:
        """See Queue.drain."""
        return self._run(self._here().drain(delayed=delayed, progress=progress))

    def clean(
        self,
        grace: float | timedelta,
        state: str = "completed",
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """See Queue.clean."""
        return self._run(self._here().clean(grace, state, limit=limit, progress=progress))

    def retry_jobs(
        self,
        state: str = "failed",
        *,
        until_ms: int | None = None,
        limit: int | None = None,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """See Queue.retry_jobs."""
        return self._run(
            self._here().retry_jobs(
                state,
                until_ms=until_ms,
                limit=limit,
                reset_attempts_made=reset_attempts_made,
                reset_attempts_started=reset_attempts_started,
                progress=progress,
            )
        )

    def promote_jobs(self, *, limit: int | None = None, progress: Progress | None = None) -> int:
        """See Queue.promote_jobs."""
        return self._run(self._here().promote_jobs(limit=limit, progress=progress))

    def remove_orphaned_jobs(
        self, *, limit: int | None = None, progress: Progress | None = None
    ) -> list[str]:
        """See Queue.remove_orphaned_jobs."""
        return self._run(self._here().remove_orphaned_jobs(limit=limit, progress=progress))

    # ── one job, whoever runs it ────────────────────────────────────────────

    def promote(self, job_id: str) -> None:
        """See Queue.promote."""
        self._run(self._here().promote(job_id))

    def change_delay(self, job_id: str, delay: float | timedelta) -> None:
        """See Queue.change_delay."""
        self._run(self._here().change_delay(job_id, delay))

    def change_priority(self, job_id: str, priority: int, *, lifo: bool = False) -> None:
        """See Queue.change_priority."""
        self._run(self._here().change_priority(job_id, priority, lifo=lifo))

    def retry(
        self,
        job_id: str,
        state: str = "failed",
        *,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
    ) -> None:
        """See Queue.retry."""
        self._run(
            self._here().retry(
                job_id,
                state,
                reset_attempts_made=reset_attempts_made,
                reset_attempts_started=reset_attempts_started,
            )
        )

    def update_job_data(self, job_id: str, data: Any) -> None:
        """See Queue.update_job_data."""
        self._run(self._here().update_job_data(job_id, data))

    def update_job_progress(self, job_id: str, progress: Any) -> None:
        """See Queue.update_job_progress."""
        self._run(self._here().update_job_progress(job_id, progress))

    def add_job_log(self, job_id: str, line: str, *, keep_logs: int | None = None) -> int:
        """See Queue.add_job_log."""
        return self._run(self._here().add_job_log(job_id, line, keep_logs=keep_logs))

    def clear_job_logs(self, job_id: str, *, keep_logs: int = 0) -> None:
        """See Queue.clear_job_logs."""
        self._run(self._here().clear_job_logs(job_id, keep_logs=keep_logs))

    # ── deduplication ───────────────────────────────────────────────────────

    def deduplication_job_id(self, deduplication_id: str) -> str | None:
        """See Queue.deduplication_job_id."""
        return self._run(self._here().deduplication_job_id(deduplication_id))

    def remove_deduplication_key(self, deduplication_id: str, *, job_id: str | None = None) -> bool:
        """See Queue.remove_deduplication_key."""
        return self._run(self._here().remove_deduplication_key(deduplication_id, job_id=job_id))

    # ── limits of all workers together ──────────────────────────────────────

    def set_global_concurrency(self, concurrency: int) -> None:
        """See Queue.set_global_concurrency."""
        self._run(self._here().set_global_concurrency(concurrency))

    def get_global_concurrency(self) -> int | None:
        """See Queue.get_global_concurrency."""
        return self._run(self._here().get_global_concurrency())

    def remove_global_concurrency(self) -> bool:
        """See Queue.remove_global_concurrency."""
        return self._run(self._here().remove_global_concurrency())

    def is_maxed(self) -> bool:
        """See Queue.is_maxed."""
        return self._run(self._here().is_maxed())

    def set_global_rate_limit(self, max_jobs: int, duration: float | timedelta) -> None:
        """See Queue.set_global_rate_limit."""
        self._run(self._here().set_global_rate_limit(max_jobs, duration))

    def get_global_rate_limit(self) -> RateLimit | None:
        """See Queue.get_global_rate_limit."""
        return self._run(self._here().get_global_rate_limit())

    def remove_global_rate_limit(self) -> bool:
        """See Queue.remove_global_rate_limit."""
        return self._run(self._here().remove_global_rate_limit())

    def rate_limit(self, duration: float | timedelta) -> None:
        """See Queue.rate_limit."""
        self._run(self._here().rate_limit(duration))

    def rate_limit_ttl(self, max_jobs: int | None = None) -> float:
        """See Queue.rate_limit_ttl."""
        return self._run(self._here().rate_limit_ttl(max_jobs))

    def remove_rate_limit_key(self) -> bool:
        """See Queue.remove_rate_limit_key."""
        return self._run(self._here().remove_rate_limit_key())

    def upsert_scheduler(
        self,
        scheduler_id: str,
        repeat: Repeat,
        *,
        name: str | None = None,
        data: Any = None,
        options: AddOptions | None = None,
    ) -> SyncJob:
        """See Queue.upsert_scheduler."""
        upserting = self._here().upsert_scheduler(
            scheduler_id, repeat, name=name, data=data, options=options
        )
        return self._bound(self._run(upserting))

    def get_scheduler(self, scheduler_id: str) -> Scheduler | None:
        """See Queue.get_scheduler."""
        return self._run(self._here().get_scheduler(scheduler_id))

    def get_schedulers(
        self, start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[Scheduler]:
        """See Queue.get_schedulers."""
        return self._run(self._here().get_schedulers(start, end, ascending=ascending))

    def count_schedulers(self) -> int:
        """See Queue.count_schedulers."""
        return self._run(self._here().count_schedulers())

    def remove_scheduler(self, scheduler_id: str) -> bool:
        """See Queue.remove_scheduler."""
        return self._run(self._here().remove_scheduler(scheduler_id))

    def publish_event(
        self,
        name: str,
        fields: Mapping[str, FieldValue] | None = None,
        *,
        max_len: int | None = None,
    ) -> str:
        """See Queue.publish_event."""
        return self._run(self._here().publish_event(name, fields, max_len=max_len))

    def _here(self) -> Queue:
        """Return this process's queue: a forked child must not use its parent's connections."""
        if self._pid != os.getpid():
            _of_parents.append(self._queue)
            name, url, prefix, tracing = self._arguments
            self._queue = Queue(name, url, prefix=prefix, tracing=tracing)
            self._pid = os.getpid()
        return self._queue

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return portal().run(coroutine)

    def _bound(self, job: Job) -> SyncJob:
        return SyncJob(**members_of(job), queue=self)
