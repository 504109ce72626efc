"""What the time is by the server's clock: what is due goes by it, whatever our own clock says.

INFO at connect, TIME with each claim that waits ──► how far we are ahead ──► now_ms
TIME, where that was long ago or our clock was set ◄──────────────┘
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sandboxq.model.clock import Clock

_log = logging.getLogger("sandboxq.broker")

# What is on its way makes the clocks seem apart: of so many comparisons the best count.
_COMPARED = 8
# Clocks as far apart as this are the same.
_SAME_MS = 10
# Clocks drift: what was measured before that is measured again.
_FRESH_SECONDS = 60.0
# Our clock was set, or the machine slept, when it and the monotonic clock part by more than that.
_SET_MS = 500
# From here on people are told.
WRONG_MS = 1000


class Reading(NamedTuple):
    """Both of our clocks at one moment."""

    wall_ms: int
    monotonic: float


class ServerTime:
    """Compares our clock with the server's."""

    def __init__(self, clock: Clock) -> None:
        """Take them for the same until something is known."""
        self._clock = clock
        # We are at least, and at most, so far ahead.
        self._least_ms: deque[int] = deque(maxlen=_COMPARED)
        self._most_ms: deque[int] = deque(maxlen=_COMPARED)
        self._noted = self.reading()
        # How far our clock is ahead of the server's; negative where it is behind.
        self.lead_ms = 0

    def reading(self) -> Reading:
        """Return what our clocks say, before the server is asked."""
        return Reading(self._clock.now_ms(), self._clock.monotonic())

    def note(self, asked: Reading, server_ms: int) -> None:
        """Take what the server's clock said between when it was asked and now."""
        self.note_least(asked, server_ms)
        self._noted = self.reading()
        self._most_ms.append(self._noted.wall_ms - server_ms)
        self.lead_ms = self._reckoned_lead()

    def note_least(self, asked: Reading, server_ms: int) -> None:
        """Take what the server's clock said, nobody knows how long ago, after it was asked."""
        if self._was_set():
            self._least_ms.clear()
            self._most_ms.clear()
        self._least_ms.append(asked.wall_ms - server_ms)
        self.lead_ms = self._reckoned_lead()

    @property
    def is_stale(self) -> bool:
        """Whether the server is to be asked again before its time is told."""
        return self._clock.monotonic() - self._noted.monotonic > _FRESH_SECONDS or self._was_set()

    def _reckoned_lead(self) -> int:
        least, most = max(self._least_ms, default=0), min(self._most_ms, default=0)
        # Between these all is possible, and that the clocks are the same is likely.
        lead_ms = least if least > 0 else min(most, 0)
        return lead_ms if abs(lead_ms) > _SAME_MS else 0

    def now_ms(self) -> int:
        """Return what the server's clock says now, as far as is known."""
        return self._clock.now_ms() - self.lead_ms + self._clock.shift_ms

    def _was_set(self) -> bool:
        clock, (wall_ms, monotonic) = self._clock, self._noted
        passed_ms = (clock.monotonic() - monotonic) * 1000
        return abs(clock.now_ms() - wall_ms - passed_ms) > _SET_MS


def ms_from_time(reply: list[bytes]) -> int:
    """Return what TIME answered in milliseconds."""
    seconds, microseconds = map(int, reply)
    return seconds * 1000 + microseconds // 1000


def clock_warning(lead_ms: int) -> str:
    """Say that the clocks differ; nothing where they hardly do."""
    if abs(lead_ms) <= WRONG_MS:
        return ""
    way = "ahead of" if lead_ms > 0 else "behind"
    return (
        f"this machine's clock is {abs(lead_ms) / 1000:.1f} s {way} that of Redis: delays, "
        "back-off and schedulers go by Redis's; set the clocks (NTP), for Node goes by its own"
    )


def warn_of_clock(time: ServerTime) -> None:
    """Log what ``clock_warning`` says."""
    warning = clock_warning(time.lead_ms)
    if warning:
        _log.warning("%s", warning)
