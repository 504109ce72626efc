"""A job together with its queue, and adding jobs under a span (protocol.md 2.2, `tm`).

SyncJob is the same for code without an event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from sandboxq.broker.codec import json_text, ms_from_seconds
from sandboxq.broker.commands.add import PLAIN, parent_link
from sandboxq.errors import QueueError
from sandboxq.model.dependencies import FIRST_PAGE
from sandboxq.model.job import JobOptions, JobState, StoredJob
from sandboxq.payload.binary import WHOLE
from sandboxq.queue.blocking import blocking
from sandboxq.queue.options import checked_size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import timedelta

    from sandboxq.model.dependencies import Dependencies
    from sandboxq.observe.tracing import Tracing
    from sandboxq.queue.queue import Queue, SyncQueue

_FIELDS = tuple(each.name for each in fields(StoredJob))
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class QueuedJob(StoredJob):
    """A job as it stood when it was added or read, and what can be done with it.

    Nothing in it changes; ``refresh`` reads the job anew.
    """

    queue: Queue = field(repr=False, compare=False)

    async def result(self, timeout: float | timedelta | None = None) -> Any:
        """Return the value of the job once it has completed.

        Raises: JobFailed, or that of its kinds which names how its child ended (JobCrashed, …): all
        have ``reason``, ``cause``, ``job_id``, ``attempts_made`` and ``stacktrace``;
        ResultTimeout after ``timeout`` seconds; JobNotFound when it was removed before its value
        could be read.
        """
        return await self.queue.result(self.id, timeout)

    async def array(self, name: str = WHOLE) -> Any:
        """Return one numpy array of the job's data; see Queue.job_array."""
        return await self.queue.job_array(self.id, name)

    async def binary(self, name: str = WHOLE) -> bytes:
        """Return some bytes of the job's data; see Queue.job_array."""
        return await self.queue.job_binary(self.id, name)

    async def state(self) -> JobState:
        """Return the state that holds the job, UNKNOWN when it is gone."""
        return await self.queue.job_state(self.id)

    async def refresh(self) -> QueuedJob:
        """Return the job as it is now. Raises: JobNotFound."""
        return await self.queue.read_job(self.id)

    async def remove(self, *, with_children: bool = True) -> bool:
        """Remove the job; see Queue.remove."""
        return await self.queue.remove(self.id, with_children=with_children)

    async def cancel(
        self, reason: str | None = None, *, grace: float | timedelta = 5.0
    ) -> str | None:
        """End the job wherever it is; see Queue.cancel."""
        return await self.queue.cancel(self.id, reason, grace=grace)

    async def logs(self, start: int = 0, end: int = -1) -> list[str]:
        """Return lines of the job's log; see Queue.logs."""
        return await self.queue.logs(self.id, start, end)

    async def promote(self) -> None:
        """Let the job, which is delayed, wait from now on; see Queue.promote."""
        await self.queue.promote(self.id)

    async def change_delay(self, delay: float | timedelta) -> None:
        """Delay the job, which is delayed, by so much from now; see Queue.change_delay."""
        await self.queue.change_delay(self.id, delay)

    async def change_priority(self, priority: int, *, lifo: bool = False) -> None:
        """Give the job another priority; see Queue.change_priority."""
        await self.queue.change_priority(self.id, priority, lifo=lifo)

    async def retry(
        self,
        state: str = "failed",
        *,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
    ) -> None:
        """Let the job, which failed, or completed, wait again; see Queue.retry."""
        await self.queue.retry(
            self.id,
            state,
            reset_attempts_made=reset_attempts_made,
            reset_attempts_started=reset_attempts_started,
        )

    async def update_data(self, data: Any) -> None:
        """Replace the job's data; its ``size_limit`` holds. See Queue.update_job_data."""
        _check_data_size(self, data)
        await self.queue.update_job_data(self.id, data)

    async def update_progress(self, progress: Any) -> None:
        """Say how far the job is; see Queue.update_job_progress."""
        await self.queue.update_job_progress(self.id, progress)

    async def log(self, line: str) -> int:
        """Add a line to the job's log; see Queue.add_job_log."""
        return await self.queue.add_job_log(self.id, line, keep_logs=self.opts.keep_logs)

    async def clear_logs(self, *, keep_logs: int = 0) -> None:
        """Remove lines of the job's log; see Queue.clear_job_logs."""
        await self.queue.clear_job_logs(self.id, keep_logs=keep_logs)

    async def remove_deduplication_key(self) -> bool:
        """Let the next add with the job's deduplication id add a job, if this one prevents it."""
        if self.deduplication_id is None:
            return False
        return await self.queue.remove_deduplication_key(self.deduplication_id, job_id=self.id)

    async def children_values(self) -> dict[str, Any]:
        """Return the values of completed children; see Queue.children_values."""
        return await self.queue.children_values(self.id)

    async def ignored_children_failures(self) -> dict[str, str]:
        """Return the reasons of ignored failures; see Queue.ignored_children_failures."""
        return await self.queue.ignored_children_failures(self.id)

    async def failed_children(self) -> list[str]:
        """Return the children that failed this job; see Queue.failed_children."""
        return await self.queue.failed_children(self.id)

    async def dependencies(
        self, *, count: int | None = None, cursor: str = FIRST_PAGE
    ) -> Dependencies:
        """Return the job's children, or a page of them; see Queue.dependencies."""
        return await self.queue.dependencies(self.id, count=count, cursor=cursor)

    async def dependencies_count(self) -> dict[str, int]:
        """Return how many children of each kind there are; see Queue.dependencies_count."""
        return await self.queue.dependencies_count(self.id)

    async def remove_child_dependency(self) -> bool:
        """Unlink the job from its parent; see Queue.remove_child_dependency."""
        return await self.queue.remove_child_dependency(self.id)

    async def remove_unprocessed_children(
        self, *, progress: Callable[[int], None] | None = None
    ) -> int:
        """Remove the children that have not ended; see Queue.remove_unprocessed_children."""
        return await self.queue.remove_unprocessed_children(self.id, progress=progress)


def job_from_add(
    queue: Queue, job_id: str, *, name: str, data: Any, options: JobOptions, now_ms: int
) -> QueuedJob:
    """Return the job that an add of these checked arguments has made."""
    if options is PLAIN:
        return _plain_job(queue, job_id, name, data, now_ms)
    parent = parent_link(options.extra) if "parent" in options.extra else None
    return QueuedJob(
        id=job_id,
        name=name,
        data=data,
        opts=options,
        queue_name=queue.name,
        timestamp_ms=now_ms if options.timestamp_ms is None else options.timestamp_ms,
        delay_ms=ms_from_seconds(options.delay),
        priority=options.priority,
        parent=parent,
        parent_key=f"{parent['queueKey']}:{parent['id']}" if parent else None,
        deduplication_id=options.extra.get("de", {}).get("id"),
        queue=queue,
    )


def _plain_job(queue: Queue, job_id: str, name: str, data: Any, now_ms: int) -> QueuedJob:
    """Do so without options: what is not set here has its default, and is asked for by few."""
    job = object.__new__(QueuedJob)
    fill = object.__setattr__  # QueuedJob(…) takes as long as all the rest of an add in bulk
    fill(job, "id", job_id)
    fill(job, "name", name)
    fill(job, "data", data)
    fill(job, "opts", PLAIN)
    fill(job, "queue_name", queue.name)
    fill(job, "timestamp_ms", now_ms)
    fill(job, "queue", queue)
    return job


def members_of(job: StoredJob) -> dict[str, Any]:
    """Return the fields of a job, to bind them to another queue object."""
    return {name: getattr(job, name) for name in _FIELDS}


def _check_data_size(job: StoredJob, data: Any) -> None:
    """Refuse new data that is larger than the job's ``size_limit``."""
    if job.opts.size_limit is not None:
        checked_size(json_text(data, "data"), job.name, job.opts.size_limit)


# ── blocking ────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncJob(StoredJob):
    """QueuedJob for code without an event loop: the same methods, blocking."""

    queue: SyncQueue = field(repr=False, compare=False)

    @property
    def _twin(self) -> QueuedJob:
        return QueuedJob(**members_of(self), queue=self.queue._twin)  # noqa: SLF001 - the same of both

    def _of_same_queue(self, job: QueuedJob) -> SyncJob:
        return SyncJob(**members_of(job), queue=self.queue)

    result = blocking(QueuedJob.result)
    array = blocking(QueuedJob.array)
    binary = blocking(QueuedJob.binary)
    state = blocking(QueuedJob.state)
    refresh = blocking(QueuedJob.refresh, _of_same_queue)
    remove = blocking(QueuedJob.remove)
    cancel = blocking(QueuedJob.cancel)
    logs = blocking(QueuedJob.logs)
    promote = blocking(QueuedJob.promote)
    change_delay = blocking(QueuedJob.change_delay)
    change_priority = blocking(QueuedJob.change_priority)
    retry = blocking(QueuedJob.retry)
    update_data = blocking(QueuedJob.update_data)
    update_progress = blocking(QueuedJob.update_progress)
    log = blocking(QueuedJob.log)
    clear_logs = blocking(QueuedJob.clear_logs)
    remove_deduplication_key = blocking(QueuedJob.remove_deduplication_key)
    children_values = blocking(QueuedJob.children_values)
    ignored_children_failures = blocking(QueuedJob.ignored_children_failures)
    failed_children = blocking(QueuedJob.failed_children)
    dependencies = blocking(QueuedJob.dependencies)
    dependencies_count = blocking(QueuedJob.dependencies_count)
    remove_child_dependency = blocking(QueuedJob.remove_child_dependency)
    remove_unprocessed_children = blocking(QueuedJob.remove_unprocessed_children)


async def add_traced(
    tracing: Tracing,
    queue: str,
    entry: tuple[str, Any, Mapping[str, Any]],
    add: Callable[[list[Any]], Awaitable[list[QueuedJob | QueueError]]],
) -> list[QueuedJob | QueueError]:
    """Add one job under a span of its own."""
    name, data, options = entry
    with tracing.adding(queue, str(name)) as span:
        results = await add([(name, data, with_context(options, span.metadata))])
        for result in results:
            if isinstance(result, QueueError):
                # Raised here, so that the span records it.
                raise result
            span.added(result.id)
        return results


async def add_bulk_traced(
    tracing: Tracing, queue: str, entries: Sequence[Any], add: Callable[[list[Any]], Awaitable[T]]
) -> T:
    """Add many jobs under one span."""
    with tracing.adding_bulk(queue, [str(entry[0]) for entry in entries]) as span:
        return await add([_entry_with_context(entry, span.metadata) for entry in entries])


async def add_flows_traced(
    tracing: Tracing, roots: Sequence[Any], add: Callable[[list[Any]], Awaitable[T]]
) -> T:
    """Add flows under one span, whose context all of their jobs get."""
    with tracing.adding_flows(_queues_of(roots)) as span:
        return await add([_node_with_context(root, span.metadata) for root in roots])


def with_context(options: Mapping[str, Any], metadata: str | None) -> Mapping[str, Any]:
    """Return the options with the trace context, unless they have one or refuse it."""
    if metadata is None or options.get("omit_trace_context"):
        return options
    if options.get("trace_context") is not None:
        return options
    return {**options, "trace_context": metadata}


def _entry_with_context(entry: Any, metadata: str | None) -> Any:
    name, data, *rest = entry
    return (name, data, with_context(rest[0] if rest else {}, metadata), *rest[1:])


def _node_with_context(node: Any, metadata: str | None) -> Any:
    if not isinstance(node, Mapping):
        # The caller's checks refuse it.
        return node
    children = node.get("children") or ()
    return {
        **node,
        "opts": with_context(node.get("opts") or {}, metadata),
        "children": [_node_with_context(child, metadata) for child in children],
    }


def _queues_of(roots: Sequence[Any]) -> list[str]:
    return [str(root.get("queue", "")) if isinstance(root, Mapping) else "" for root in roots]
