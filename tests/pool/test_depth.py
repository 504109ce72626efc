"""How many calls are held ahead."""

from __future__ import annotations

import pytest

from sandboxq.pool.children.circuit import RestartDelay
from sandboxq.pool.placement import (
    average_with,
    depth,
    packet,
    reserve,
    same_between,
)


@pytest.mark.parametrize(
    ("average", "expected"),
    [
        (None, 1),
        (10.0, 1),
        (0.001, 1),
        (0.0006, 1),
        (0.0005, 4),
        (0.0001, 20),
        (0.00002, 100),
        (0.00001, 128),
        (0.0, 128),
    ],
)
def test_only_short_jobs_are_sent_ahead(average: float | None, expected: int) -> None:
    """Above half a millisecond it buys nothing, and each waits behind a longer one."""
    assert depth(average) == expected


@pytest.mark.parametrize(
    ("average", "expected"),
    [
        (None, 0),
        (10.0, 0),
        (0.051, 0),
        (0.05, 8),
        (0.001, 32),
        (0.0001, 320),
        (0.00001, 600),
        (0.0, 600),
    ],
)
def test_reserve_hides_the_round_trip_of_jobs_that_are_worth_it(
    average: float | None, expected: int
) -> None:
    """A lock held for a job that cannot start soon keeps it from workers that could."""
    assert reserve(average, 8) == expected


def test_average_follows_a_change_of_load() -> None:
    """After ten long jobs nothing short is assumed any more."""
    average: float | None = None
    for seconds in [0.0001] * 50 + [1.0] * 10:
        average = average_with(average, seconds)
    assert average is not None
    assert average > 0.8


@pytest.mark.parametrize("average", [0.0, 0.00001, 0.00003, 0.0002, 0.01, 0.1, 20.0])
def test_what_is_reckoned_once_stays_right(average: float) -> None:
    """Between the run times that are said to be as good as the same, nothing changes by much."""
    least, most = same_between(average, 2)
    assert least <= average <= most
    for other in (least, min(most, 1e6)):
        assert abs(packet(other) - packet(average)) <= packet(average) / 5
        assert depth(other) == pytest.approx(depth(average), rel=0.15, abs=1)
        if other != least or least < 0.05:
            assert reserve(other, 2) == pytest.approx(reserve(average, 2), rel=0.15, abs=1)


def test_restarts_are_at_once_then_ever_later_up_to_five_seconds() -> None:
    """One crash must not cost a pause; a poison queue must not fork without end."""
    delay = RestartDelay()
    waits = [delay.after_death(was_useful=False) for _ in range(9)]
    assert waits == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert delay.after_death(was_useful=True) == 0.0
    delay.succeed()
    assert delay.after_death(was_useful=False) == 0.0


def test_jobs_that_succeed_elsewhere_do_not_hurry_starts_that_fail() -> None:
    """Otherwise a busy sibling turns a broken setup() into a fork bomb."""
    delay = RestartDelay()
    waits = []
    for _ in range(4):
        waits.append(delay.after_failed_start())
        delay.succeed()
    assert waits == [0.1, 0.2, 0.4, 0.8]
    delay.start()
    assert delay.after_failed_start() == 0.1
