"""The operating half of the queue for code without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.queue.sync_part import SyncPart

if TYPE_CHECKING:
    from datetime import timedelta

    from sandboxq.model.job import UsageTotals
    from sandboxq.queue.bulk import Progress


class SyncOperating(SyncPart):
    """See Operating.

    ``progress`` is called on the background thread, where no blocking method may be called.
    """

    def pause(self) -> None:
        """See Queue.pause."""
        self._run(self._queue.pause())

    def resume(self) -> None:
        """See Queue.resume."""
        self._run(self._queue.resume())

    def is_paused(self) -> bool:
        """See Queue.is_paused."""
        return self._run(self._queue.is_paused())

    def remove(self, job_id: str, *, with_children: bool = True) -> bool:
        """See Queue.remove."""
        return self._run(self._queue.remove(job_id, with_children=with_children))

    def cancel(
        self, job_id: str, reason: str | None = None, *, grace: float | timedelta = 5.0
    ) -> str | None:
        """See Queue.cancel."""
        return self._run(self._queue.cancel(job_id, reason, grace=grace))

    def obliterate(self, *, force: bool = False) -> None:
        """See Queue.obliterate."""
        self._run(self._queue.obliterate(force=force))

    def usage(self) -> UsageTotals:
        """See Queue.usage."""
        return self._run(self._queue.usage())

    def remove_deprecated_priority_key(self) -> bool:
        """See Queue.remove_deprecated_priority_key."""
        return self._run(self._queue.remove_deprecated_priority_key())

    def set_max_events(self, count: int) -> None:
        """See Queue.set_max_events."""
        self._run(self._queue.set_max_events(count))

    def trim_events(self, max_length: int) -> int:
        """See Queue.trim_events."""
        return self._run(self._queue.trim_events(max_length))

    def drain(self, *, delayed: bool = False, progress: Progress | None = None) -> int:
        """See Queue.drain."""
        return self._run(self._queue.drain(delayed=delayed, progress=progress))

    def clean(
        self,
        grace: float | timedelta,
        state: str = "completed",
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """See Queue.clean."""
        return self._run(self._queue.clean(grace, state, limit=limit, progress=progress))

    def retry_jobs(
        self,
        state: str = "failed",
        *,
        until_ms: int | None = None,
        limit: int | None = None,
        reset_attempts_made: bool = False,
        reset_attempts_started: bool = False,
        progress: Progress | None = None,
    ) -> int:
        """See Queue.retry_jobs."""
        return self._run(
            self._queue.retry_jobs(
                state,
                until_ms=until_ms,
                limit=limit,
                reset_attempts_made=reset_attempts_made,
                reset_attempts_started=reset_attempts_started,
                progress=progress,
            )
        )

    def promote_jobs(self, *, limit: int | None = None, progress: Progress | None = None) -> int:
        """See Queue.promote_jobs."""
        return self._run(self._queue.promote_jobs(limit=limit, progress=progress))

    def remove_orphaned_jobs(
        self, *, limit: int | None = None, progress: Progress | None = None
    ) -> list[str]:
        """See Queue.remove_orphaned_jobs."""
        return self._run(self._queue.remove_orphaned_jobs(limit=limit, progress=progress))
