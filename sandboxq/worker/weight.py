"""How much goes into one exchange with Redis: not only so many rows, but so many bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sandboxq.outcome import Complete, Fail, RetryLater, RetryNow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.outcome import Transition

R = TypeVar("R")

# Seconds of a slow link: what is lost when it breaks is sent again. Redis serves nobody meanwhile.
MOST_BYTES = 4 << 20
# Rows of this size or less need not be weighed: as many as ever go together are not too heavy.
LIGHT = 400
# An exchange that was lost with more than this was perhaps lost for its size.
LARGE = 256 << 10


def lightest(rows: Sequence[R], most: int, weigh: Callable[[R], int]) -> Sequence[R]:
    """Return the first rows, at most so many and so heavy as go together; one goes always."""
    size = 0
    for place, row in enumerate(rows[:most]):
        size += weigh(row)
        if size > MOST_BYTES and place:
            return rows[:place]
    return rows[:most]


def weight_of(transition: Transition) -> int:
    """Return about how many bytes the transition of a job has."""
    match transition:
        case Complete():
            return len(transition.value)
        case Fail() | RetryNow() | RetryLater():
            return len(transition.failure.reason) + len(transition.failure.stack)
        case _:
            return 0
