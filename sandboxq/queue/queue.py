"""A queue, as producers and operators see it."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from sandboxq.broker.commands import discovery, schedulers
from sandboxq.broker.commands.add import NewJob, add, new_job
from sandboxq.broker.keys import DEFAULT_PREFIX
from sandboxq.errors import AddInterrupted, BulkAddFailed, QueueError, UsageError
from sandboxq.model.clock import SYSTEM_CLOCK, Clock
from sandboxq.model.validation import (
    checked_flag,
    checked_many,
    checked_place,
    checked_text,
)
from sandboxq.queue.base import Connected
from sandboxq.queue.binary import checked_parts, text_and_parts, with_stored_parts
from sandboxq.queue.custom_events import FieldValue, publish_event
from sandboxq.queue.dependencies import Family
from sandboxq.queue.job import QueuedJob, job_from_add, members_of
from sandboxq.queue.operating import Changing, Limiting, Operating
from sandboxq.queue.options import (
    AddOptions,
    checked_name,
    checked_options,
    checked_size,
    refuse_own_parent,
)
from sandboxq.queue.reading import Getters
from sandboxq.queue.schedulers import (
    Template,
    TemplateOptions,
    checked_scheduler_id,
    new_scheduler,
    upsert_scheduler,
)
from sandboxq.queue.traced import add_bulk_traced, add_traced

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandboxq.broker.commands.schedulers import Scheduler
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.model.job import JobOptions, StoredJob
    from sandboxq.observe.tracing import Tracing
    from sandboxq.payload.binary import Part
    from sandboxq.queue.schedulers import Repeat
    from sandboxq.queue.sync import SyncQueue

# What ``add_bulk`` takes for one job.
BulkEntry = tuple[str, Any] | tuple[str, Any, AddOptions]
_ENTRY_SIZES = (2, 3)


class Draft(NamedTuple):
    """One job of an add, checked: as the script takes it, and as its caller gave it."""

    new: NewJob
    data: Any
    options: JobOptions
    parts: list[Part]


class Queue(Getters, Family, Operating, Changing, Limiting):
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
        prefix: str = DEFAULT_PREFIX,
        tracing: Tracing | None = None,
        default_job_options: AddOptions | None = None,
    ) -> SyncQueue:
        """Return a queue with the same methods, blocking, for code without an event loop."""
        from sandboxq.queue.sync import SyncQueue  # noqa: PLC0415 - it imports this module

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
        checked = [_checked_entry(*each) for each in enumerate(checked_many("entries", entries))]
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
        drafts = [self._draft(*entry) for entry in entries]
        broker = await self._connected()
        now_ms = await broker.now_ms()
        wanted = [(self._keys, draft.new, draft.parts) for draft in drafts]
        new, _ = await with_stored_parts(broker, wanted)

        def jobs_of(results: Sequence[Any]) -> list[QueuedJob | QueueError]:
            return [
                result if isinstance(result, QueueError) else self._added(result, draft, now_ms)
                for result, draft in zip(results, drafts, strict=False)
            ]

        try:
            added = jobs_of(await add(broker, self._keys, new, now_ms=now_ms))
        except AddInterrupted as error:
            error.results = list(jobs_of(error.results))
            raise
        if Connected.after_add is not None:
            await Connected.after_add()
        return added

    def _draft(self, name: str, data: Any, options: Mapping[str, Any] | None = None) -> Draft:
        checked = checked_options(self._with_defaults(options), prefix=self._keys.prefix)
        refuse_own_parent(checked, self._keys)
        text, parts = text_and_parts(data, "data")
        checked_size(text, checked_name(name), checked.size_limit)
        new = new_job(name, text, checked)
        return Draft(new, data, checked, checked_parts(parts, checked))

    def _with_defaults(self, options: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        if not self._defaults or not isinstance(options, (Mapping, NoneType)):
            # What is no mapping is refused with the right words by who checks it.
            return {} if options is None else options
        return {**self._defaults, **(options or {})}

    def _added(self, job_id: str, draft: Draft, now_ms: int) -> QueuedJob:
        new, data, options, _ = draft
        return job_from_add(self, job_id, name=new.name, data=data, options=options, now_ms=now_ms)

    # ── schedulers ──────────────────────────────────────────────────────────

    async def upsert_scheduler(
        self,
        scheduler_id: str,
        repeat: Repeat,
        *,
        name: str | None = None,
        data: Any = None,
        options: TemplateOptions | None = None,
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

    async def get_scheduler(self, scheduler_id: str) -> Scheduler | None:
        """Return a scheduler, None when there is none."""
        checked_text("scheduler id", scheduler_id)
        return await schedulers.scheduler_of(await self._connected(), self._keys, scheduler_id)

    async def get_schedulers(
        self, start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[Scheduler]:
        """Return the schedulers ``start`` to ``end`` (inclusive; -1 is the last).

        The one that runs last comes first, or last when ``ascending``.
        """
        checked_place("start", start)
        checked_place("end", end)
        checked_flag("ascending", ascending)
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
        checked_text("scheduler id", scheduler_id)
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

    def _bound(self, job: StoredJob) -> QueuedJob:
        return QueuedJob(**members_of(job), queue=self)


def _checked_entry(place: int, entry: object) -> BulkEntry:
    """Refuse what would be taken apart into something else: a dict into its keys, say."""
    if not isinstance(entry, (tuple, list)) or len(entry) not in _ENTRY_SIZES:
        message = f"entry {place} must be (name, data) or (name, data, options), not {entry!r}"
        raise UsageError(message)
    return tuple(entry)


async def queue_names(broker: Broker, prefix: str = DEFAULT_PREFIX) -> list[str]:
    """Return the names of all queues under the prefix, sorted; walks over the whole database."""
    return await discovery.queue_names(broker, prefix=prefix)
