"""Whether the event loop turns: a timer that tells by coming late that something held it."""

from __future__ import annotations

import asyncio

# The loop is looked at so often.
TICK = 0.5
# Longer than this is no hiccup: locks of 30 s are renewed every half second, and probes give up.
STOOD_STILL = 5.0
# A probe can only ask once the loop turns again: for so long it is told that it did not.
REMEMBERED = 10.0


class Pulse:
    """Ticks on the running loop from ``start`` to ``stop``."""

    def __init__(self, most: float = STOOD_STILL) -> None:
        """Begin without having ticked; ``most`` seconds may pass without a turn of the loop."""
        self._most = most
        self.blocked = 0  # how often it stood still
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._until = float("-inf")

    def start(self) -> None:
        """Tick from now on."""
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._tick()

    def stop(self) -> None:
        """Tick no more; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def is_steady(self) -> bool:
        """Whether the loop has not stood still lately for more than ``most`` seconds."""
        if self._loop is None:
            return False
        now = self._loop.time()
        return now - self._last - TICK <= self._most and now > self._until

    def _tick(self) -> None:
        assert self._loop is not None  # noqa: S101 - it was started
        now = self._loop.time()
        if now - self._last - TICK > self._most:
            self.blocked += 1
            self._until = now + REMEMBERED
        self._last = now
        self._timer = self._loop.call_later(TICK, self._tick)
