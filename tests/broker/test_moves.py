"""Jobs that their processors moved: delayed, put back, waiting for children, limiting the rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import (
    AwaitChildren,
    HandBack,
    LimitRate,
    Postpone,
)
from tests.broker.case import NOW, Case
from tests.broker.test_settle import DONE

if TYPE_CHECKING:
    from sandboxq.model.outcome import Transition

THEN = NOW + 5
MOVES = [Postpone(1000), AwaitChildren(), LimitRate(1000), HandBack(was_started=True)]


def test_postponed(case: Case) -> None:
    """The job is delayed with its lock gone, and no attempt counted."""
    case.active("1", atm=1)

    assert case.settle(("1", Postpone(1500))) == [0]

    assert case.scores("delayed") == {"1": (THEN + 1500) * 4096}
    fields = case.hash("1")
    assert (fields["delay"], fields["atm"], fields["ats"]) == ("1500", "1", "1")
    assert "failedReason" not in fields
    assert not case.redis.exists(case.keys["1:lock"])
    assert case.scores("marker") == {"1": THEN + 1500}
    assert case.events() == [{"event": "delayed", "jobId": "1", "delay": str(THEN + 1500)}]


def test_waits_for_children(case: Case) -> None:
    """The last child to end brings the parent back."""
    parent = case.active_parent("p", children=["c"])

    assert case.settle(("p", AwaitChildren())) == [0]

    assert case.scores("waiting-children") == {"p": THEN}
    assert "atm" not in case.hash("p")
    assert not case.redis.exists(f"{parent}:lock")
    assert case.events() == [{"event": "waiting-children", "jobId": "p", "prev": "active"}]
    case.active("c", parentKey=parent)
    assert case.settle(("c", DONE)) == [0]
    assert case.items("wait") == ["p"]


def test_with_no_child_to_wait_for_it_goes_on(case: Case) -> None:
    """The children were faster than the parent: it runs again at once, before what waits."""
    case.active("p")
    case.waiting("other")

    assert case.settle(("p", AwaitChildren())) == [0]

    assert case.items("wait") == ["other", "p"]
    assert case.scores("waiting-children") == {}
    assert case.scores("marker") == {"0": 0}
    assert case.events() == [{"event": "waiting", "jobId": "p", "prev": "active"}]


def test_last_child_and_parent_in_one_batch(case: Case) -> None:
    """Whichever comes first in the batch, the parent is not left waiting for nobody."""
    parent = case.active_parent("p", children=["c"])
    case.active("c", parentKey=parent)

    assert case.settle(("p", AwaitChildren()), ("c", DONE)) == [0, 0]

    assert case.items("wait") == ["p"]
    assert case.scores("waiting-children") == {}


def test_a_failed_child_refuses_the_wait(case: Case) -> None:
    """The lock is kept, so that the worker can fail the parent."""
    parent = case.active_parent("p", children=["c"])
    case.redis.zadd(f"{parent}:unsuccessful", {"some child": 1})

    assert case.settle(("p", AwaitChildren())) == [-9]

    assert case.items("active") == ["p"]
    assert case.redis.exists(f"{parent}:lock")


def test_limits_the_rate(case: Case) -> None:
    """Nobody claims before the time is over; then the job is the first."""
    case.active("1")
    case.waiting("2")

    assert case.settle(("1", LimitRate(40_000))) == [0]

    assert case.items("wait") == ["2", "1"]
    assert case.redis.get(case.keys["limiter"]) == str(2**53 - 1)
    assert "atm" not in case.hash("1")
    limited = case.claim(limit=2)
    assert limited.jobs == []
    assert 30_000 < limited.rate_limit_ms <= 40_000


def test_the_longest_limit_counts(case: Case) -> None:
    """Of two jobs that were told to come back later, the later one speaks for both."""
    case.active("1", "2", "3")
    case.redis.set(case.keys["limiter"], 3, px=100_000)
    case.settle(("1", LimitRate(40_000)), ("2", LimitRate(1)), ("3", LimitRate(0)))
    assert 30_000 < case.redis.pttl(case.keys["limiter"]) <= 40_000


def test_what_limits_returns_in_its_order(case: Case) -> None:
    """Jobs of one batch stand in the queue as they stood before."""
    case.active("1", "2", "3", "4")
    case.settle(("1", HandBack()), ("2", LimitRate(9)), ("3", AwaitChildren()), ("4", LimitRate(9)))
    assert case.items("wait") == ["4", "3", "2", "1"]


def test_priority_survives(case: Case) -> None:
    """A job goes back in front of its class, not in front of all."""
    for job_id in ("1", "2"):
        case.job(job_id, priority=3)
        case.redis.zadd(case.keys["prioritized"], {job_id: 3 * 2**32 + int(job_id)})
    case.claim(limit=1)

    case.settle(("1", HandBack(was_started=True)))

    assert list(case.scores("prioritized")) == ["1", "2"]
    assert case.items("wait") == []


@pytest.mark.parametrize("move", MOVES)
def test_who_does_not_hold_the_lock_moves_nothing(case: Case, move: Transition) -> None:
    """A run that lost its lock has no say."""
    case.active_parent("1", children=["c"])
    assert case.settle(("1", move), token="other") == [-6]  # noqa: S106
    assert case.items("active") == ["1"]
    assert case.events() == []


@pytest.mark.parametrize("move", [Postpone(1), AwaitChildren()])
def test_not_active(case: Case, move: Transition) -> None:
    """As in Node, a job that left `active` by other ways stays where it is."""
    case.active_parent("1", children=["c"])
    case.redis.delete(case.keys["active"])
    assert case.settle(("1", move)) == [-3]
    assert case.scores("delayed") == case.scores("waiting-children") == {}


def test_room_under_the_concurrency_wakes_a_worker(case: Case) -> None:
    """Who was told that the queue is at its concurrency sleeps: moves make room too."""
    for move in (Postpone(60_000), AwaitChildren()):
        case.redis.hset(case.keys["meta"], "concurrency", 1)
        case.active_parent("1", children=["c"])
        case.waiting("2")
        assert case.claim(limit=1).is_blocked
        case.redis.delete(case.keys["marker"])

        case.settle(("1", move))

        assert case.scores("marker")["0"] == 0
        case.redis.flushdb()
