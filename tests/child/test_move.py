"""Which exceptions move a job, and which are failures all the same."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sandboxq import DelayedError, RateLimitError, UsageError, WaitingChildrenError, WaitingError
from sandboxq.child.failure import Move, move_from
from sandboxq.child.frames import (
    LONGEST_MS,
    TO_DELAYED,
    TO_RATE_LIMIT,
    TO_WAIT,
    TO_WAITING_CHILDREN,
    decode_move,
    encode_move,
)


def named(name: str, **attributes: Any) -> Exception:
    """Return an error of a class of this name that has nothing to do with sandboxq."""
    error: Exception = type(name, (Exception,), {})("text")
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    return error


@pytest.mark.parametrize(
    ("error", "move"),
    [
        (DelayedError(1.5), Move(TO_DELAYED, 1500)),
        (DelayedError(0), Move(TO_DELAYED, 0)),
        (DelayedError(timedelta(minutes=1)), Move(TO_DELAYED, 60_000)),
        (WaitingError(), Move(TO_WAIT)),
        (WaitingError("with a text"), Move(TO_WAIT)),
        (WaitingChildrenError(), Move(TO_WAITING_CHILDREN)),
        (RateLimitError(0.25), Move(TO_RATE_LIMIT, 250)),
        (type("Later", (DelayedError,), {})(2), Move(TO_DELAYED, 2000)),
        (named("DelayedError", seconds=2), Move(TO_DELAYED, 2000)),
        (named("WaitingError"), Move(TO_WAIT)),
        (named("WaitingChildrenError"), Move(TO_WAITING_CHILDREN)),
        (ValueError("DelayedError"), None),
        (KeyboardInterrupt(), None),
    ],
)
def test_moves(error: BaseException, move: Move | None) -> None:
    """By class, and by the name of a class that a processor defines itself."""
    assert move_from(error) == move


@pytest.mark.parametrize("seconds", [None, "5", float("nan"), float("inf"), -1, True])
def test_a_namesake_without_a_duration_is_a_failure(seconds: object) -> None:
    """The RateLimitError of an HTTP client must not put the whole queue to rest."""
    assert move_from(named("RateLimitError")) is None
    assert move_from(named("RateLimitError", seconds=seconds)) is None
    assert move_from(named("DelayedError", seconds=seconds)) is None


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf"), "1", None, True, 1e300])
@pytest.mark.parametrize("kind", [DelayedError, RateLimitError])
def test_durations_are_checked_where_they_are_raised(kind: Any, seconds: object) -> None:
    """The trace then shows the processor's line."""
    with pytest.raises(UsageError, match=kind.__name__):
        kind(seconds)


def test_a_child_cannot_name_a_duration_that_redis_would_refuse() -> None:
    """What a child says is not to be trusted."""
    assert decode_move(encode_move(2**64 - 1)) == LONGEST_MS
