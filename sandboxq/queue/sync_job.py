"""A job together with its queue, for code without an event loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandboxq.model.dependencies import FIRST_PAGE
from sandboxq.model.job import JobState, StoredJob
from sandboxq.payload.binary import WHOLE
from sandboxq.queue.job import check_data_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from sandboxq.model.dependencies import Dependencies
    from sandboxq.queue.sync import SyncQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncJob(StoredJob):
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
