"""A heartbeat in an asyncio loop: how long the loop could not answer, at its worst."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INTERVAL = 0.05


class Heartbeat:
    """Ticks every 50 ms; ``longest_gap`` is the longest time between two ticks, in seconds."""

    def __init__(self) -> None:
        """Start with no gap."""
        self.longest_gap = 0.0

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Tick for the duration of the block; the time since the last tick counts at its end."""
        self._last = time.perf_counter()
        ticking = asyncio.create_task(self._tick())
        try:
            yield
        finally:
            self._note()
            ticking.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self._note()

    def _note(self) -> None:
        now = time.perf_counter()
        self.longest_gap = max(self.longest_gap, now - self._last)
        self._last = now
