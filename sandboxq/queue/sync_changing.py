"""Changes to single jobs, for code without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandboxq.queue.sync_part import SyncPart

if TYPE_CHECKING:
    from datetime import timedelta


class SyncChanging(SyncPart):
    """See Changing."""

    def promote(self, job_id: str) -> None:
        """See Queue.promote."""
        self._run(self._queue.promote(job_id))

    def change_delay(self, job_id: str, delay: float | timedelta) -> None:
        """See Queue.change_delay."""
        self._run(self._queue.change_delay(job_id, delay))

    def change_priority(self, job_id: str, priority: int, *, lifo: bool = False) -> None:
        """See Queue.change_priority."""
        self._run(self._queue.change_priority(job_id, priority, lifo=lifo))

    def retry(
        self,
        job_id: str,
        state: str = "failed",
        *,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
    ) -> None:
        """See Queue.retry."""
        self._run(
            self._queue.retry(
                job_id,
                state,
                reset_attempts_made=reset_attempts_made,
                reset_attempts_started=reset_attempts_started,
            )
        )

    def update_job_data(self, job_id: str, data: Any) -> None:
        """See Queue.update_job_data."""
        self._run(self._queue.update_job_data(job_id, data))

    def update_job_progress(self, job_id: str, progress: Any) -> None:
        """See Queue.update_job_progress."""
        self._run(self._queue.update_job_progress(job_id, progress))

    def add_job_log(self, job_id: str, line: str, *, keep_logs: int | None = None) -> int:
        """See Queue.add_job_log."""
        return self._run(self._queue.add_job_log(job_id, line, keep_logs=keep_logs))

    def clear_job_logs(self, job_id: str, *, keep_logs: int = 0) -> None:
        """See Queue.clear_job_logs."""
        self._run(self._queue.clear_job_logs(job_id, keep_logs=keep_logs))

    def deduplication_job_id(self, deduplication_id: str) -> str | None:
        """See Queue.deduplication_job_id."""
        return self._run(self._queue.deduplication_job_id(deduplication_id))

    def remove_deduplication_key(self, deduplication_id: str, *, job_id: str | None = None) -> bool:
        """See Queue.remove_deduplication_key."""
        return self._run(self._queue.remove_deduplication_key(deduplication_id, job_id=job_id))
