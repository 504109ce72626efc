"""Parents and children, for code without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandboxq.model.dependencies import FIRST_PAGE
from sandboxq.queue.sync_part import SyncPart

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.model.dependencies import Dependencies
    from sandboxq.queue.dependencies import ChildList


class SyncFamily(SyncPart):
    """See Family."""

    def children_values(self, job_id: str) -> dict[str, Any]:
        """See Queue.children_values."""
        return self._run(self._queue.children_values(job_id))

    def ignored_children_failures(self, job_id: str) -> dict[str, str]:
        """See Queue.ignored_children_failures."""
        return self._run(self._queue.ignored_children_failures(job_id))

    def failed_children(self, job_id: str) -> list[str]:
        """See Queue.failed_children."""
        return self._run(self._queue.failed_children(job_id))

    def dependencies(
        self, job_id: str, *, count: int | None = None, cursor: str = FIRST_PAGE
    ) -> Dependencies:
        """See Queue.dependencies."""
        return self._run(self._queue.dependencies(job_id, count=count, cursor=cursor))

    def dependencies_count(self, job_id: str) -> dict[str, int]:
        """See Queue.dependencies_count."""
        return self._run(self._queue.dependencies_count(job_id))

    def get_dependencies(self, job_id: str, kind: str, start: int = 0, end: int = -1) -> ChildList:
        """See Queue.get_dependencies."""
        return self._run(self._queue.get_dependencies(job_id, kind, start, end))

    def remove_child_dependency(self, job_id: str) -> bool:
        """See Queue.remove_child_dependency."""
        return self._run(self._queue.remove_child_dependency(job_id))

    def remove_unprocessed_children(
        self, job_id: str, *, progress: Callable[[int], None] | None = None
    ) -> int:
        """See Queue.remove_unprocessed_children."""
        return self._run(self._queue.remove_unprocessed_children(job_id, progress=progress))
