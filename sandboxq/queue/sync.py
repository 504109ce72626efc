"""The queue for code without an event loop: the methods of Queue, blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from sandboxq.errors import AddInterrupted, BulkAddFailed
from sandboxq.queue.job import QueuedJob, members_of
from sandboxq.queue.sync_by_state import SyncByState
from sandboxq.queue.sync_changing import SyncChanging
from sandboxq.queue.sync_family import SyncFamily
from sandboxq.queue.sync_job import SyncJob
from sandboxq.queue.sync_limiting import SyncLimiting
from sandboxq.queue.sync_operating import SyncOperating

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sandboxq.broker.commands.schedulers import Scheduler
    from sandboxq.model.job import StoredJob
    from sandboxq.queue.custom_events import FieldValue
    from sandboxq.queue.options import AddOptions
    from sandboxq.queue.queue import BulkEntry
    from sandboxq.queue.schedulers import Repeat, TemplateOptions


class SyncQueue(SyncByState, SyncFamily, SyncOperating, SyncChanging, SyncLimiting):
    """Queue for code without an event loop; every method is documented there.

    Any thread may use it. All queues of a process share one background thread. After a fork the
    child connects anew by itself; a call that another thread was making is not carried over.
    """

    def add(self, name: str, data: Any, **options: Unpack[AddOptions]) -> SyncJob:
        """See Queue.add."""
        return self._bound(self._run(self._queue.add(name, data, **options)))

    def add_bulk(self, entries: Iterable[BulkEntry]) -> list[SyncJob]:
        """See Queue.add_bulk."""
        try:
            return [self._bound(job) for job in self._run(self._queue.add_bulk(entries))]
        except (AddInterrupted, BulkAddFailed) as error:
            error.results = [
                self._bound(each) if isinstance(each, QueuedJob) else each for each in error.results
            ]
            raise

    def upsert_scheduler(
        self,
        scheduler_id: str,
        repeat: Repeat,
        *,
        name: str | None = None,
        data: Any = None,
        options: TemplateOptions | None = None,
    ) -> SyncJob:
        """See Queue.upsert_scheduler."""
        upserting = self._queue.upsert_scheduler(
            scheduler_id, repeat, name=name, data=data, options=options
        )
        return self._bound(self._run(upserting))

    def get_scheduler(self, scheduler_id: str) -> Scheduler | None:
        """See Queue.get_scheduler."""
        return self._run(self._queue.get_scheduler(scheduler_id))

    def get_schedulers(
        self, start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[Scheduler]:
        """See Queue.get_schedulers."""
        return self._run(self._queue.get_schedulers(start, end, ascending=ascending))

    def count_schedulers(self) -> int:
        """See Queue.count_schedulers."""
        return self._run(self._queue.count_schedulers())

    def remove_scheduler(self, scheduler_id: str) -> bool:
        """See Queue.remove_scheduler."""
        return self._run(self._queue.remove_scheduler(scheduler_id))

    def publish_event(
        self,
        name: str,
        fields: Mapping[str, FieldValue] | None = None,
        *,
        max_len: int | None = None,
    ) -> str:
        """See Queue.publish_event."""
        return self._run(self._queue.publish_event(name, fields, max_len=max_len))

    def _bound(self, job: StoredJob) -> SyncJob:
        return SyncJob(**members_of(job), queue=self)
