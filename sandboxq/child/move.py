"""What a processor raises to have its job moved, instead of ending it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sandboxq.child.failure import class_names
from sandboxq.child.frames import (
    LONGEST_MS,
    TO_DELAYED,
    TO_RATE_LIMIT,
    TO_WAIT,
    TO_WAITING_CHILDREN,
)
from sandboxq.errors import DelayedError, RateLimitError, UsageError

if TYPE_CHECKING:
    from sandboxq.model.job_limits import Budgets

# By the names of classes: a processor may define its own, so that it needs no sandboxq.
_TARGETS = {
    "DelayedError": TO_DELAYED,
    "WaitingError": TO_WAIT,
    "WaitingChildrenError": TO_WAITING_CHILDREN,
    "RateLimitError": TO_RATE_LIMIT,
}
_TIMED: dict[int, type[DelayedError | RateLimitError]] = {
    TO_DELAYED: DelayedError,
    TO_RATE_LIMIT: RateLimitError,
}


class Move(NamedTuple):
    """Where a job goes (detail of a MOVE frame), and for how long."""

    target: int
    duration_ms: int = 0

    def is_within(self, budgets: Budgets) -> bool:
        """Tell whether a job may ask for that; how long it waits itself is its own affair."""
        limited = self.target == TO_RATE_LIMIT
        return not limited or self.duration_ms <= budgets.rate_limit * 1000

    def refusal(self, budgets: Budgets) -> UsageError:
        """Return why it may not."""
        return UsageError(
            f"RateLimitError({self.duration_ms / 1000:g}) is more than the {budgets.rate_limit:g} s"
            " that a job may have its queue rest (max_rate_limit of the worker)"
        )


def move_from(error: BaseException) -> Move | None:
    """Return the move that an exception asks for; None when it is a failure.

    Many a client library has a ``RateLimitError``: where a duration belongs to the move, a class
    counts only if it has a number of ``seconds``.
    """
    for name in class_names(error):
        target = _TARGETS.get(name)
        if target is not None:
            return _timed(target, error) if target in _TIMED else Move(target)
    return None


def _timed(target: int, error: BaseException) -> Move | None:
    try:
        seconds = _TIMED[target](getattr(error, "seconds", None)).seconds  # type: ignore[arg-type]  # checked there
        return Move(target, min(round(seconds * 1000), LONGEST_MS))
    except BaseException:  # noqa: BLE001 - UsageError, or whatever the code of the exception raises
        return None
