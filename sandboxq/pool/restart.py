"""When to replace what died: at once, but ever later while nothing works; pure."""

from __future__ import annotations

_FIRST = 0.1
_LONGEST = 5.0


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
