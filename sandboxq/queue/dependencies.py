"""Parents and children of a queue's jobs, and lists of children one kind at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.commands import children
from sandboxq.broker.commands.children import range_of
from sandboxq.broker.commands.jobs import jobs_of_keys
from sandboxq.errors import UsageError
from sandboxq.model.dependencies import (
    FIRST_PAGE,
    KINDS,
    Dependencies,
    Page,
    reasons_from,
    values_from,
)
from sandboxq.model.job import StoredJob  # noqa: TC001 - fields of a NamedTuple are read at run time
from sandboxq.model.validation import checked_text, checked_whole
from sandboxq.queue.base import QueueBase

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys


class QueueDependencies(QueueBase):
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
        """Unlink a job from its parent; False when no parent waits for it.

        A parent whose last pending child it was goes on. Raises: JobNotFound, ParentNotFound.
        """
        return await children.unlink(*await self._asked_of(job_id))

    async def remove_unprocessed_children(
        self, job_id: str, *, progress: Callable[[int], None] | None = None
    ) -> int:
        """Remove a job's children that have not ended, and theirs; return how many.

        Those that are being processed stay, and those that failed without telling the parent.
        ``progress`` gets the number so far after each hundred. The job itself goes on.
        """
        return await children.prune(*await self._asked_of(job_id), progress or _hear_nothing)

    async def _asked_of(self, job_id: str) -> tuple[Broker, QueueKeys, str]:
        checked_text("job_id", job_id)
        return await self._connected(), self._keys, job_id


def _hear_nothing(_: int) -> None:
    return


class ChildList(NamedTuple):
    """Some children of one kind.

    ``total`` is how many there are in all, ``keys`` names those asked for, ``values`` has the
    values (of ``processed`` ones) or the reasons (of ``ignored`` ones), ``jobs`` those that still
    exist, by their keys.
    """

    total: int
    keys: list[str]
    values: dict[str, Any]
    jobs: dict[str, StoredJob]


async def list_children(
    broker: Broker, keys: QueueKeys, job_id: str, kind: str, *, start: int, end: int
) -> ChildList:
    """Return the children ``start`` to ``end`` of one kind; see Queue.get_dependencies."""
    if kind not in KINDS:
        message = f"kind must be one of {', '.join(KINDS)}, not {kind!r}"
        raise UsageError(message)
    first, last = checked_whole("start", start), checked_whole("end", end, least=-1)
    found = await range_of(broker, keys, job_id, kind, start=first, end=last)
    names = [key for key, _ in found.items]
    flat = [part for key, raw in found.items for part in (key.encode(), raw)]
    values: dict[str, Any] = {}
    if kind == "processed":
        values = values_from(flat)
    elif kind == "ignored":
        values = dict(reasons_from(flat))
    return ChildList(
        found.total, names, values, await jobs_of_keys(broker, names, near=keys.prefix)
    )
