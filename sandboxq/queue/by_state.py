"""The jobs of a queue by state, one method for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.job import JobState
from sandboxq.queue.reading import Reading

if TYPE_CHECKING:
    from sandboxq.queue.job import QueuedJob


class ByState(Reading):
    """Getters of one state each: jobs ``start`` to ``end`` (inclusive; -1 is the last).

    As in BullMQ, finished jobs come newest first, all others oldest first.
    """

    async def get_waiting(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[QueuedJob]:
        """Return those that wait without priority, ``start`` to ``end``, oldest first."""
        return await self.get_jobs(JobState.WAITING, start, end, ascending=ascending)

    async def get_waiting_count(self) -> int:
        """Return how many jobs there are that wait without priority."""
        return (await self.counts(JobState.WAITING))[JobState.WAITING]

    async def get_prioritized(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[QueuedJob]:
        """Return those that wait with a priority, ``start`` to ``end``, oldest first."""
        return await self.get_jobs(JobState.PRIORITIZED, start, end, ascending=ascending)

    async def get_prioritized_count(self) -> int:
        """Return how many jobs there are that wait with a priority."""
        return (await self.counts(JobState.PRIORITIZED))[JobState.PRIORITIZED]

    async def get_delayed(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[QueuedJob]:
        """Return those that wait for their time, ``start`` to ``end``, oldest first."""
        return await self.get_jobs(JobState.DELAYED, start, end, ascending=ascending)

    async def get_delayed_count(self) -> int:
        """Return how many jobs there are that wait for their time."""
        return (await self.counts(JobState.DELAYED))[JobState.DELAYED]

    async def get_active(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[QueuedJob]:
        """Return those that are being processed, ``start`` to ``end``, oldest first."""
        return await self.get_jobs(JobState.ACTIVE, start, end, ascending=ascending)

    async def get_active_count(self) -> int:
        """Return how many jobs there are that are being processed."""
        return (await self.counts(JobState.ACTIVE))[JobState.ACTIVE]

    async def get_waiting_children(
        self, start: int = 0, end: int = -1, *, ascending: bool = True
    ) -> list[QueuedJob]:
        """Return those that wait for their children, ``start`` to ``end``, oldest first."""
        return await self.get_jobs(JobState.WAITING_CHILDREN, start, end, ascending=ascending)

    async def get_waiting_children_count(self) -> int:
        """Return how many jobs there are that wait for their children."""
        return (await self.counts(JobState.WAITING_CHILDREN))[JobState.WAITING_CHILDREN]

    async def get_completed(
        self, start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[QueuedJob]:
        """Return those that completed, ``start`` to ``end``, newest first."""
        return await self.get_jobs(JobState.COMPLETED, start, end, ascending=ascending)

    async def get_completed_count(self) -> int:
        """Return how many jobs there are that completed."""
        return (await self.counts(JobState.COMPLETED))[JobState.COMPLETED]

    async def get_failed(
        self, start: int = 0, end: int = -1, *, ascending: bool = False
    ) -> list[QueuedJob]:
        """Return those that failed, ``start`` to ``end``, newest first."""
        return await self.get_jobs(JobState.FAILED, start, end, ascending=ascending)

    async def get_failed_count(self) -> int:
        """Return how many jobs there are that failed."""
        return (await self.counts(JobState.FAILED))[JobState.FAILED]
