"""Wall time and monotonic time in one object, so that tests can shift them."""

from __future__ import annotations

import time


class Clock:
    """The machine's clocks."""

    # Milliseconds by which the time of jobs is ahead: tests do not wait for delays.
    shift_ms = 0

    def now_ms(self) -> int:
        """Return the wall time in integer milliseconds since the epoch, as the wire wants it."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds that never go back; the origin means nothing."""
        return time.monotonic()


SYSTEM_CLOCK = Clock()
