"""The limits of all workers, for code without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.queue.sync_part import SyncPart

if TYPE_CHECKING:
    from datetime import timedelta

    from sandboxq.config import RateLimit


class SyncLimiting(SyncPart):
    """See Limiting."""

    def set_global_concurrency(self, concurrency: int) -> None:
        """See Queue.set_global_concurrency."""
        self._run(self._queue.set_global_concurrency(concurrency))

    def get_global_concurrency(self) -> int | None:
        """See Queue.get_global_concurrency."""
        return self._run(self._queue.get_global_concurrency())

    def remove_global_concurrency(self) -> bool:
        """See Queue.remove_global_concurrency."""
        return self._run(self._queue.remove_global_concurrency())

    def is_maxed(self) -> bool:
        """See Queue.is_maxed."""
        return self._run(self._queue.is_maxed())

    def set_global_rate_limit(self, max_jobs: int, duration: float | timedelta) -> None:
        """See Queue.set_global_rate_limit."""
        self._run(self._queue.set_global_rate_limit(max_jobs, duration))

    def get_global_rate_limit(self) -> RateLimit | None:
        """See Queue.get_global_rate_limit."""
        return self._run(self._queue.get_global_rate_limit())

    def remove_global_rate_limit(self) -> bool:
        """See Queue.remove_global_rate_limit."""
        return self._run(self._queue.remove_global_rate_limit())

    def rate_limit(self, duration: float | timedelta) -> None:
        """See Queue.rate_limit."""
        self._run(self._queue.rate_limit(duration))

    def rate_limit_ttl(self, max_jobs: int | None = None) -> float:
        """See Queue.rate_limit_ttl."""
        return self._run(self._queue.rate_limit_ttl(max_jobs))

    def remove_rate_limit_key(self) -> bool:
        """See Queue.remove_rate_limit_key."""
        return self._run(self._queue.remove_rate_limit_key())
