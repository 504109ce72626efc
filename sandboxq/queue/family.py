"""Parents and children of a queue's jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandboxq.broker import (
    children,
)
from sandboxq.dependencies import FIRST_PAGE, Dependencies, Page
from sandboxq.limits import checked_text
from sandboxq.queue.child_list import ChildList, list_children
from sandboxq.queue.of_queue import OfQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys


class Family(OfQueue):
    """What can be asked and changed between parents and children."""

    async def children_values(self, job_id: str) -> dict[str, Any]:
        """Return the values of a job's completed children, by ``<prefix>:<queue>:<id>``."""
        return await children.values_of(*await self._asked_of(job_id))

    async def ignored_children_failures(self, job_id: str) -> dict[str, str]:
        """Return why children failed whose failure was ignored or let the parent continue."""
        return await children.ignored_of(*await self._asked_of(job_id))

    async def failed_children(self, job_id: str) -> list[str]:
        """Return the keys of the children that failed the job, the first failure first."""
        return await children.failed_of(*await self._asked_of(job_id))

    async def dependencies(
        self, job_id: str, *, count: int | None = None, cursor: str = FIRST_PAGE
    ) -> Dependencies:
        """Return all children of a job, or with ``count`` a page of about so many of each kind.

        ``cursor`` is that of the page before. A child may come twice when others end meanwhile.
        """
        page = None if count is None else Page.checked(cursor, count)
        return await children.dependencies_of(*await self._asked_of(job_id), page)

    async def dependencies_count(self, job_id: str) -> dict[str, int]:
        """Return how many children of each kind a job has: see Dependencies."""
        return await children.counts_of(*await self._asked_of(job_id))

    async def get_dependencies(
        self, job_id: str, kind: str, start: int = 0, end: int = -1
    ) -> ChildList:
        """Return the children ``start`` to ``end`` (inclusive; -1 is the last) of one kind.

        The kinds are the fields of Dependencies. Only ``failed`` ones have an order of their own.
        """
        asked = await self._asked_of(job_id)
        return await list_children(*asked, kind, start=start, end=end)

    async def remove_child_dependency(self, job_id: str) -> bool:
        """Make a job nobody's child; False when no parent waits for it.

        A parent whose last pending child it was goes on. Raises: JobNotFound, ParentNotFound.
        """
        return await children.unlink(*await self._asked_of(job_id))

    async def remove_unprocessed_children(
        self, job_id: str, *, progress: Callable[[int], None] | None = None
    ) -> int:
        """Remove a job's children that have not ended, and theirs; return how many.

        Those that are being processed stay, and those that failed without telling the parent.
        ``progress`` hears the number so far after each hundred. The job itself goes on.
        """
        return await children.prune(*await self._asked_of(job_id), progress or _hear_nothing)

    async def _asked_of(self, job_id: str) -> tuple[Broker, QueueKeys, str]:
        checked_text("job_id", job_id)
        return await self._connected(), self._keys, job_id


def _hear_nothing(_: int) -> None:
    return
