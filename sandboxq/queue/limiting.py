"""The limits of all workers of a queue together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker import limits, meta
from sandboxq.broker.codec import ms_from_seconds
from sandboxq.limits import (
    LONGEST_WAIT,
    checked_whole,
    positive_seconds,
)
from sandboxq.queue.of_queue import OfQueue

if TYPE_CHECKING:
    from datetime import timedelta

    from sandboxq.config import RateLimit


class Limiting(OfQueue):
    """How many jobs may be active at once, and how many may be claimed in a time."""

    async def set_global_concurrency(self, concurrency: int) -> None:
        """Let at most so many jobs of the queue be active at once."""
        checked_whole("concurrency", concurrency, least=1)
        await limits.set_limits(await self._connected(), self._keys, concurrency=concurrency)

    async def get_global_concurrency(self) -> int | None:
        """Return how many jobs may be active at once, None when any number may."""
        return (await meta.meta_of(await self._connected(), self._keys)).concurrency

    async def remove_global_concurrency(self) -> bool:
        """Let any number of jobs be active at once; False when it may already."""
        return bool(await limits.set_limits(await self._connected(), self._keys, concurrency=None))

    async def is_maxed(self) -> bool:
        """Tell whether as many jobs are active as the global concurrency allows."""
        return await limits.is_maxed(await self._connected(), self._keys)

    async def set_global_rate_limit(self, max_jobs: int, duration: float | timedelta) -> None:
        """Let at most so many jobs be claimed in each ``duration``, by all workers together."""
        checked_whole("max_jobs", max_jobs, least=1)
        duration_ms = ms_from_seconds(positive_seconds("duration", duration, most=LONGEST_WAIT))
        broker = await self._connected()
        await limits.set_limits(broker, self._keys, max=max_jobs, duration=duration_ms)

    async def get_global_rate_limit(self) -> RateLimit | None:
        """Return how many jobs may be claimed in which time, None when any number may."""
        return (await meta.meta_of(await self._connected(), self._keys)).rate_limit

    async def remove_global_rate_limit(self) -> bool:
        """Undo ``set_global_rate_limit``; False when there was none."""
        broker = await self._connected()
        return bool(await limits.set_limits(broker, self._keys, max=None, duration=None))

    async def rate_limit(self, duration: float | timedelta) -> None:
        """Let no worker claim for so long; Node's heed it if they, or the queue, have a limit."""
        duration_ms = ms_from_seconds(positive_seconds("duration", duration, most=LONGEST_WAIT))
        await limits.close_window(await self._connected(), self._keys, duration_ms=duration_ms)

    async def rate_limit_ttl(self, max_jobs: int | None = None) -> float:
        """Return for how many seconds the rate limit lets nobody claim, 0.0 when it lets.

        ``max_jobs`` is a worker's own maximum; left out, the queue's counts.
        """
        if max_jobs is not None:
            checked_whole("max_jobs", max_jobs, least=1)
        broker = await self._connected()
        return await limits.window_ttl_ms(broker, self._keys, max_jobs=max_jobs) / 1000

    async def remove_rate_limit_key(self) -> bool:
        """Begin a new rate limit window now; False when there was none."""
        return await limits.open_window(await self._connected(), self._keys)
