"""A queue, as producers and operators see it."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from sandboxq.broker.commands import queues
from sandboxq.broker.commands.add import NewJob, add, new_job
from sandboxq.broker.keys import chosen_prefix
from sandboxq.errors import AddInterrupted, BulkAddFailed, QueueError
from sandboxq.model.clock import SYSTEM_CLOCK, Clock
from sandboxq.model.validation import checked_many
from sandboxq.queue.base import Connected
from sandboxq.queue.binary import checked_parts, text_and_parts, with_stored_parts
from sandboxq.queue.blocking import Blocking, blocking, portal
from sandboxq.queue.custom_events import FieldValue, publish_event
from sandboxq.queue.dependencies import QueueDependencies
from sandboxq.queue.job import (
    QueuedJob,
    SyncJob,
    add_bulk_traced,
    add_traced,
    job_from_add,
    members_of,
)
from sandboxq.queue.operating import QueueOperating
from sandboxq.queue.options import (
    AddOptions,
    BulkEntry,
    checked_entry,
    checked_name,
    checked_options,
    checked_size,
    refuse_own_parent,
)
from sandboxq.queue.profiling import QueueProfiling, SyncQueueProfiling
from sandboxq.queue.reading import QueueReading
from sandboxq.queue.schedulers import (
    Template,
    TemplateOptions,
    checked_scheduler_id,
    new_scheduler,
    upsert_scheduler,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.model.job import JobOptions, StoredJob
    from sandboxq.observe.tracing import Tracing
    from sandboxq.payload.binary import Part
    from sandboxq.queue.schedulers import Repeat


class CheckedJob(NamedTuple):
    """One job of an add, checked: as the script takes it, and as its caller gave it."""

    new: NewJob
    data: Any
    options: JobOptions
    parts: list[Part]


class Queue(QueueReading, QueueDependencies, QueueOperating, QueueProfiling):
    """A queue by name. Nothing is sent before the first method is awaited.

    Durations are seconds or ``timedelta``. Every method raises BrokerUnavailable when Redis cannot
    be reached, and UsageError, before anything is written, for an argument that cannot be right.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        prefix: str | None = None,
        broker: Broker | None = None,
        clock: Clock = SYSTEM_CLOCK,
        tracing: Tracing | None = None,
        default_job_options: AddOptions | None = None,
    ) -> None:
        """Name a queue of the Redis at ``url`` (see Broker.connect), or of an open ``broker``.

        A broker that was given stays open when the queue is closed. ``default_job_options`` hold
        for jobs that do not say otherwise, when they are added here.
        """
        super().__init__(name, url, prefix=prefix, broker=broker, clock=clock, tracing=tracing)
        self._defaults: AddOptions = {} if default_job_options is None else default_job_options
        checked_options(self._defaults, prefix=self._keys.prefix)

    @staticmethod
    def sync(
        name: str,
        url: str | None = None,
        *,
        prefix: str | None = None,
        tracing: Tracing | None = None,
        default_job_options: AddOptions | None = None,
    ) -> SyncQueue:
        """Return a queue with the same methods, blocking, for code without an event loop."""
        return SyncQueue(
            name, url, prefix=prefix, tracing=tracing, default_job_options=default_job_options
        )

    # ── adding ──────────────────────────────────────────────────────────────

    async def add(self, name: str, data: Any, **options: Unpack[AddOptions]) -> QueuedJob:
        """Add one job with JSON ``data``, arrays and bytes in it; options: see AddOptions.

        A ``job_id`` that exists, and ``deduplication``, return the job found; nothing is added.
        Raises: ParentNotFound, ParentCannotBeReplaced.
        """
        if self._tracing is None:
            (result,) = await self._add([(name, data, options)])
        else:
            # With the queue's defaults, which may be to carry no context on.
            entry = (name, data, self._with_defaults(options))
            (result,) = await add_traced(self._tracing, self.name, entry, self._add)
        if isinstance(result, QueueError):
            raise result
        return result

    async def add_bulk(self, entries: Iterable[BulkEntry]) -> list[QueuedJob]:
        """Add many jobs in order; each is ``(name, data)`` or ``(name, data, options)``.

        Raises: BulkAddFailed when single jobs were refused; AddInterrupted, a BrokerUnavailable,
        when Redis goes away meanwhile. Both tell what was added.
        """
        checked = [checked_entry(*each) for each in enumerate(checked_many("entries", entries))]
        if self._tracing is None:
            return await self._add_all(checked)
        whole = [(name, data, self._with_defaults(*rest)) for name, data, *rest in checked]
        return await add_bulk_traced(self._tracing, self.name, whole, self._add_all)

    async def _add_all(self, entries: Iterable[BulkEntry]) -> list[QueuedJob]:
        results = await self._add(entries)
        added = [result for result in results if isinstance(result, QueuedJob)]
        if len(added) < len(results):
            raise BulkAddFailed(results)
        return added

    async def _add(self, entries: Iterable[BulkEntry]) -> list[QueuedJob | QueueError]:
        checked = [self._checked(*entry) for entry in entries]
        broker = await self._connected()
        now_ms = await broker.now_ms()
        wanted = [(self._keys, job.new, job.parts) for job in checked]
        new, _ = await with_stored_parts(broker, wanted)

        def jobs_of(results: Sequence[Any]) -> list[QueuedJob | QueueError]:
            return [
                result if isinstance(result, QueueError) else self._added(result, job, now_ms)
                for result, job in zip(results, checked, strict=False)
            ]

        try:
            added = jobs_of(await add(broker, self._keys, new, now_ms=now_ms))
        except AddInterrupted as error:
            error.results = list(jobs_of(error.results))
            raise
        if Connected.after_add is not None:
            await Connected.after_add()
        return added

    def _checked(
        self, name: str, data: Any, options: Mapping[str, Any] | None = None
    ) -> CheckedJob:
        checked = checked_options(self._with_defaults(options), prefix=self._keys.prefix)
        refuse_own_parent(checked, self._keys)
        text, parts = text_and_parts(data, "data")
        checked_size(text, checked_name(name), checked.size_limit)
        new = new_job(name, text, checked)
        return CheckedJob(new, data, checked, checked_parts(parts, checked))

    def _with_defaults(self, options: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        if not self._defaults or not isinstance(options, (Mapping, NoneType)):
            # What is no mapping is refused with the right words by who checks it.
            return {} if options is None else options
        return {**self._defaults, **(options or {})}

    def _added(self, job_id: str, job: CheckedJob, now_ms: int) -> QueuedJob:
        new, data, options, _ = job
        return job_from_add(self, job_id, name=new.name, data=data, options=options, now_ms=now_ms)

    # ── schedulers ──────────────────────────────────────────────────────────

    async def upsert_scheduler(
        self,
        scheduler_id: str,
        repeat: Repeat,
        *,
        name: str | None = None,
        data: Any = None,
        options: TemplateOptions | AddOptions | None = None,
    ) -> QueuedJob:
        """Make a scheduler or change it, and return the next job that it made.

        Its jobs are called ``name``, or by its id; None for ``data`` is ``{}``. They cannot have
        the options delay, job_id, timestamp_ms, parent and deduplication; see TemplateOptions.
        Raises: SchedulerSlotTaken when jobs of an earlier scheduler have all of its next times.
        """
        named = checked_scheduler_id(scheduler_id) if name is None else name
        template = Template(named, data, options, keys=self._keys, defaults=self._defaults)
        broker = await self._connected()
        now_ms = await broker.now_ms()
        new = new_scheduler(scheduler_id, repeat, template, now_ms=now_ms)
        job_id, delay_ms = await upsert_scheduler(broker, self._keys, new, repeat, now_ms=now_ms)
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

    def _bound(self, job: StoredJob) -> QueuedJob:
        return QueuedJob(**members_of(job), queue=self)


async def queue_names(broker: Broker, prefix: str | None = None) -> list[str]:
    """Return the names of all queues under the prefix, sorted; walks over the whole database."""
    return await queues.queue_names(broker, prefix=chosen_prefix(prefix))


class SyncQueue(SyncQueueProfiling, Blocking[Queue]):
    """Queue for code without an event loop: the same methods, blocking.

    Any thread may use it. All queues of a process share one background thread, on which
    ``progress`` is called: no blocking method may be called there. After a fork the child connects
    anew by itself; a call that another thread was making is not carried over.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        prefix: str | None = None,
        tracing: Tracing | None = None,
        default_job_options: AddOptions | None = None,
    ) -> None:
        """See Queue."""
        super().__init__(
            Queue(
                name, url, prefix=prefix, tracing=tracing, default_job_options=default_job_options
            )
        )

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._twin.name

    def _bound(self, job: QueuedJob) -> SyncJob:
        return SyncJob(**members_of(job), queue=self)

    def _bound_or_none(self, job: QueuedJob | None) -> SyncJob | None:
        return None if job is None else self._bound(job)

    def _all_bound(self, jobs: list[QueuedJob]) -> list[SyncJob]:
        return [self._bound(job) for job in jobs]

    connect = blocking(Queue.connect)
    close = blocking(Queue.close)

    # ── adding ──────────────────────────────────────────────────────────────

    add = blocking(Queue.add, _bound)
    upsert_scheduler = blocking(Queue.upsert_scheduler, _bound)
    publish_event = blocking(Queue.publish_event)

    def add_bulk(self, entries: Iterable[BulkEntry]) -> list[SyncJob]:
        """Add many jobs in order; each is ``(name, data)`` or ``(name, data, options)``.

        Raises: BulkAddFailed when single jobs were refused; AddInterrupted, a BrokerUnavailable,
        when Redis goes away meanwhile. Both tell what was added.
        """
        try:
            return self._all_bound(portal().run(self._twin.add_bulk(entries)))
        except (AddInterrupted, BulkAddFailed) as error:
            error.results = [
                self._bound(each) if isinstance(each, QueuedJob) else each for each in error.results
            ]
            raise

    # ── reading ─────────────────────────────────────────────────────────────

    get_job = blocking(Queue.get_job, _bound_or_none)
    read_job = blocking(Queue.read_job, _bound)
    get_jobs = blocking(Queue.get_jobs, _all_bound)
    get_waiting = blocking(Queue.get_waiting, _all_bound)
    get_waiting_count = blocking(Queue.get_waiting_count)
    get_prioritized = blocking(Queue.get_prioritized, _all_bound)
    get_prioritized_count = blocking(Queue.get_prioritized_count)
    get_delayed = blocking(Queue.get_delayed, _all_bound)
    get_delayed_count = blocking(Queue.get_delayed_count)
    get_active = blocking(Queue.get_active, _all_bound)
    get_active_count = blocking(Queue.get_active_count)
    get_waiting_children = blocking(Queue.get_waiting_children, _all_bound)
    get_waiting_children_count = blocking(Queue.get_waiting_children_count)
    get_completed = blocking(Queue.get_completed, _all_bound)
    get_completed_count = blocking(Queue.get_completed_count)
    get_failed = blocking(Queue.get_failed, _all_bound)
    get_failed_count = blocking(Queue.get_failed_count)
    counts = blocking(Queue.counts)
    record_job_counts_metric = blocking(Queue.record_job_counts_metric)
    counts_per_priority = blocking(Queue.counts_per_priority)
    delayed_count = blocking(Queue.delayed_count)
    count = blocking(Queue.count)
    job_state = blocking(Queue.job_state)
    result = blocking(Queue.result)
    job_array = blocking(Queue.job_array)
    job_binary = blocking(Queue.job_binary)
    logs = blocking(Queue.logs)
    get_workers = blocking(Queue.get_workers)
    get_queue_events_clients = blocking(Queue.get_queue_events_clients)
    get_meta = blocking(Queue.get_meta)
    version = blocking(Queue.version)
    get_metrics = blocking(Queue.get_metrics)
    export_prometheus_metrics = blocking(Queue.export_prometheus_metrics)
    get_scheduler = blocking(Queue.get_scheduler)
    get_schedulers = blocking(Queue.get_schedulers)
    count_schedulers = blocking(Queue.count_schedulers)

    # ── parents and children ────────────────────────────────────────────────

    children_values = blocking(Queue.children_values)
    ignored_children_failures = blocking(Queue.ignored_children_failures)
    failed_children = blocking(Queue.failed_children)
    dependencies = blocking(Queue.dependencies)
    dependencies_count = blocking(Queue.dependencies_count)
    get_dependencies = blocking(Queue.get_dependencies)
    remove_child_dependency = blocking(Queue.remove_child_dependency)
    remove_unprocessed_children = blocking(Queue.remove_unprocessed_children)

    # ── operating ───────────────────────────────────────────────────────────

    pause = blocking(Queue.pause)
    resume = blocking(Queue.resume)
    is_paused = blocking(Queue.is_paused)
    remove = blocking(Queue.remove)
    cancel = blocking(Queue.cancel)
    obliterate = blocking(Queue.obliterate)
    usage = blocking(Queue.usage)
    remove_deprecated_priority_key = blocking(Queue.remove_deprecated_priority_key)
    set_max_events = blocking(Queue.set_max_events)
    trim_events = blocking(Queue.trim_events)
    drain = blocking(Queue.drain)
    clean = blocking(Queue.clean)
    retry_jobs = blocking(Queue.retry_jobs)
    promote_jobs = blocking(Queue.promote_jobs)
    remove_orphaned_jobs = blocking(Queue.remove_orphaned_jobs)
    remove_scheduler = blocking(Queue.remove_scheduler)
    set_global_concurrency = blocking(Queue.set_global_concurrency)
    get_global_concurrency = blocking(Queue.get_global_concurrency)
    remove_global_concurrency = blocking(Queue.remove_global_concurrency)
    is_maxed = blocking(Queue.is_maxed)
    set_global_rate_limit = blocking(Queue.set_global_rate_limit)
    get_global_rate_limit = blocking(Queue.get_global_rate_limit)
    remove_global_rate_limit = blocking(Queue.remove_global_rate_limit)
    rate_limit = blocking(Queue.rate_limit)
    rate_limit_ttl = blocking(Queue.rate_limit_ttl)
    remove_rate_limit_key = blocking(Queue.remove_rate_limit_key)
    promote = blocking(Queue.promote)
    change_delay = blocking(Queue.change_delay)
    change_priority = blocking(Queue.change_priority)
    retry = blocking(Queue.retry)
    update_job_data = blocking(Queue.update_job_data)
    update_job_progress = blocking(Queue.update_job_progress)
    add_job_log = blocking(Queue.add_job_log)
    clear_job_logs = blocking(Queue.clear_job_logs)
    deduplication_job_id = blocking(Queue.deduplication_job_id)
    remove_deduplication_key = blocking(Queue.remove_deduplication_key)
