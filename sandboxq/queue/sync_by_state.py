"""The jobs of a queue by state, for code without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.queue.sync_reading import SyncReading

if TYPE_CHECKING:
    from sandboxq.queue.sync_job import SyncJob


class SyncByState(SyncReading):
    """See Getters."""

    def get_waiting(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[SyncJob]:
        """See Queue.get_waiting."""
        jobs = self._run(self._queue.get_waiting(start, end, ascending=ascending))
        return [self._bound(job) for job in jobs]

    def get_waiting_count(self) -> int:
        """See Queue.get_waiting_count."""
        return self._run(self._queue.get_waiting_count())

    def get_prioritized(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[SyncJob]:
        """See Queue.get_prioritized."""
        jobs = self._run(self._queue.get_prioritized(start, end, ascending=ascending))
        return [self._bound(job) for job in jobs]

    def get_prioritized_count(self) -> int:
        """See Queue.get_prioritized_count."""
        return self._run(self._queue.get_prioritized_count())

    def get_delayed(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[SyncJob]:
        """See Queue.get_delayed."""
        jobs = self._run(self._queue.get_delayed(start, end, ascending=ascending))
        return [self._bound(job) for job in jobs]

    def get_delayed_count(self) -> int:
        """See Queue.get_delayed_count."""
        return self._run(self._queue.get_delayed_count())

    def get_active(self, start: int = 0, end: int = -1, *, ascending: bool = True) -> list[SyncJob]:
        """See Queue.get_active."""
        jobs = self._run(self._queue.get_active(start, end, ascending=ascending))
        return [self._bound(job) for job in jobs]

    def get_active_count(self) -> int:
        """See Queue.get_active_count."""
        return self._run(self._queue.get_active_count())

    def get_waiting_children(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[SyncJob]:
        """See Queue.get_waiting_children."""
        jobs = self._run(self._queue.get_waiting_children(start, end, ascending=ascending))
        return [self._bound(job) for job in jobs]

    def get_waiting_children_count(self) -> int:
        """See Queue.get_waiting_children_count."""
        return self._run(self._queue.get_waiting_children_count())

    def get_completed(
        self, start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[SyncJob]:
        """See Queue.get_completed."""
        jobs = self._run(self._queue.get_completed(start, end, ascending=ascending))
        return [self._bound(job) for job in jobs]

    def get_completed_count(self) -> int:
        """See Queue.get_completed_count."""
        return self._run(self._queue.get_completed_count())

    def get_failed(
        self, start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[SyncJob]:
        """See Queue.get_failed."""
        jobs = self._run(self._queue.get_failed(start, end, ascending=ascending))
        return [self._bound(job) for job in jobs]

    def get_failed_count(self) -> int:
        """See Queue.get_failed_count."""
        return self._run(self._queue.get_failed_count())
