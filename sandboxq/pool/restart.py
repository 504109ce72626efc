"""When to replace what died: at once, but ever later while nothing works; pure."""

from __future__ import annotations

_FIRST = 0.1
_LONGEST = 5.0


class RestartDelay:
    """Counts deaths in a row without one successful job in between."""

    __slots__ = ("streak",)

    def __init__(self) -> None:
        """Start with nothing gone wrong."""
        self.streak = 0

    def after_death(self, *, was_useful: bool) -> float:
        """Return the seconds to wait; ``was_useful`` when the dead had answered a call before."""
        if was_useful:
            return 0.0
        self.streak += 1
        if self.streak == 1:
            return 0.0
        return min(_LONGEST, _FIRST * 2.0 ** min(self.streak - 2, 16))

    def succeed(self) -> None:
        """Take a successful job as proof that children can live."""
        self.streak = 0
