"""Stops the flow of calls while every job ends its child; delays restarts while nothing works.

closed ──5 jobs in a row crash, or 3 starts fail──► open ──rest──► half open ──an answer──► closed
                                                     ▲                 │
                                                     └──another crash──┘  (and rests twice as long)

RestartDelay says when to replace a dead child: at once, but later and later while nothing works.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from sandboxq.observe.telemetry import CircuitClosed, CircuitOpened

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sandboxq.observe.telemetry import Telemetry

# Different jobs that end their children, with no answer in between; one poison job that is tried
# again and again is not enough.
_MOST_CRASHES = 5
# Starts that fail in a row while no child is there.
_MOST_FAILED_STARTS = 3
_FIRST_REST = 1.0
_LONGEST_REST = 30.0

_FIRST = 0.1
_LONGEST = 5.0


class CircuitState(enum.Enum):
    """How many calls may be run."""

    CLOSED = "closed"  # all
    OPEN = "open"  # nothing
    HALF_OPEN = "half open"  # one call, as a probe


class Circuit:
    """Is told what happens to children; says how many calls there may be."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        telemetry: Telemetry,
        *,
        on_open: Callable[[], None],
        on_probe: Callable[[], None],
    ) -> None:
        """``on_open`` gives back what was not begun, ``on_probe`` asks for one call."""
        self._loop = loop
        self._telemetry = telemetry
        self._on_open = on_open
        self._on_probe = on_probe
        self._state = CircuitState.CLOSED
        self._crashed: set[str] = set()
        self._failed_starts = 0
        self._rests = 0
        self._reason = ""
        self._opened_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_troubled = False  # for the hot path: whether an answer is news

    @property
    def state(self) -> CircuitState:
        """The state now."""
        return self._state

    @property
    def verdict(self) -> str:
        """Why no job can be run, once a probe has failed too; nothing before."""
        return self._reason if self._rests > 1 else ""

    def limit(self, room: int, held: int) -> int:
        """Return how much of ``room`` may be used while ``held`` calls are in the pool."""
        if self._state is CircuitState.CLOSED:
            return room
        return min(room, max(0, 1 - held)) if self._state is CircuitState.HALF_OPEN else 0

    def crash(self, culprit: str, reason: str) -> None:
        """Take note that a child was ended by ``culprit``, a job or what else ends children."""
        self._crashed.add(culprit)
        self.is_troubled = True
        if self._state is CircuitState.HALF_OPEN:
            self._open(f"the next job ended its child too: {reason}")
        elif self._state is CircuitState.CLOSED and len(self._crashed) >= _MOST_CRASHES:
            self._open(f"{len(self._crashed)} jobs in a row ended their children, last: {reason}")

    def fail_start(self, reason: str) -> None:
        """Take note that a child could not start while none was there."""
        self._failed_starts += 1
        if self._state is CircuitState.HALF_OPEN:
            self._open(f"still no child can start: {reason}")
        elif self._state is CircuitState.CLOSED and self._failed_starts >= _MOST_FAILED_STARTS:
            self._open(f"{self._failed_starts} children in a row could not start, last: {reason}")

    def start(self) -> None:
        """Take note that a child is ready: when none could start, that is worth a probe now."""
        if self._failed_starts >= _MOST_FAILED_STARTS and self._state is CircuitState.OPEN:
            self._probe()
        self._failed_starts = 0

    def succeed(self) -> None:
        """Take an answer as proof that jobs can be run."""
        self._crashed.clear()
        self.is_troubled = False
        if self._state is not CircuitState.CLOSED:
            self.stop()
            self._state, self._rests = CircuitState.CLOSED, 0
            self._telemetry.emit(CircuitClosed(self._loop.time() - self._opened_at))
            self._on_probe()

    def stop(self) -> None:
        """Forget the timer; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _open(self, reason: str) -> None:
        if not self._rests:
            self._opened_at = self._loop.time()
        seconds = min(_LONGEST_REST, _FIRST_REST * 2.0**self._rests)
        self._rests = min(self._rests + 1, 16)
        self._reason = reason
        self._state, self.is_troubled = CircuitState.OPEN, True
        self.stop()
        self._timer = self._loop.call_later(seconds, self._probe)
        self._telemetry.emit(CircuitOpened(reason, seconds))
        self._on_open()

    def _probe(self) -> None:
        self.stop()
        self._state = CircuitState.HALF_OPEN
        self._on_probe()


class RestartDelay:
    """Counts failed starts in a row, and deaths without one successful job in between.

    Two counts: while one child does jobs, a second that cannot start must not be forked for ever.
    """

    __slots__ = ("_failed_starts", "streak")

    def __init__(self) -> None:
        """Start with nothing gone wrong."""
        self.streak = 0
        self._failed_starts = 0

    def after_failed_start(self) -> float:
        """Return the seconds to wait after a child that never was ready."""
        self._failed_starts += 1
        return _seconds(self._failed_starts)

    def after_death(self, *, was_useful: bool) -> float:
        """Return the seconds to wait; ``was_useful`` when the dead had answered a call before."""
        if was_useful:
            return 0.0
        self.streak += 1
        return _seconds(self.streak - 1)

    def start(self) -> None:
        """Take a child that is ready as proof that children can start."""
        self._failed_starts = 0

    def succeed(self) -> None:
        """Take a successful job as proof that children can work."""
        self.streak = 0


def _seconds(failures: int) -> float:
    return min(_LONGEST, _FIRST * 2.0 ** min(failures - 1, 16)) if failures else 0.0
