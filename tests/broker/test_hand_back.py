"""Giving jobs back that were claimed and shall not be run here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.model.job import KEEP_ALL
from sandboxq.model.outcome import Complete, HandBack
from tests.broker.case import TOKEN

if TYPE_CHECKING:
    from tests.broker.case import Case


def test_unstarted_jobs_return_as_if_never_claimed(case: Case) -> None:
    """To the front, in their order, and nobody can tell from the hash."""
    case.waiting("1", "2", "3", "4")
    before = [case.hash("1"), case.hash("2")]
    case.claim(limit=2, worker_name="w")
    case.redis.delete(case.keys["events"], case.keys["marker"])
    case.redis.sadd(case.keys["stalled"], "1")

    assert case.settle(("1", HandBack()), ("2", HandBack())) == [0, 0]

    assert case.items("wait") == ["4", "3", "2", "1"]
    assert [case.hash("1"), case.hash("2")] == [fields | {"ats": "0"} for fields in before]
    assert not case.redis.exists(case.keys["active"], case.keys["1:lock"], case.keys["stalled"])
    assert sorted(case.events(), key=lambda e: e["jobId"]) == [
        {"event": "waiting", "jobId": i, "prev": "active"} for i in ("1", "2")
    ]
    assert case.scores("marker") == {"0": 0.0}


def test_a_started_job_counts_as_started(case: Case) -> None:
    """No attempt is used up, but that it ran is kept: maxStartedAttempts goes by it."""
    case.active("1", atm=1, ats=1)
    case.settle(("1", HandBack(was_started=True)))
    fields = case.hash("1")
    assert (fields["atm"], fields["ats"]) == ("1", "2")
    assert "processedOn" in fields


def test_crashes_outlast_a_claim_that_was_handed_back(case: Case) -> None:
    """Else a job that waits behind others in its child would never have crashed too often."""
    case.active("1", ats=1, processedOn=5, **{"sq:crashes": "2", "sq:history": "a, b"})
    case.settle(("1", HandBack()))
    assert case.hash("1")["ats"] == "1"
    assert case.claim().jobs[0].crashes.count == 2


def test_prioritized_jobs_return_before_their_equals(case: Case) -> None:
    """And behind those of more importance."""
    case.active("1", priority=2)
    case.redis.zadd(case.keys["prioritized"], {"same": 2 * 2**32 + 1, "first": 2**32 + 2})
    case.settle(("1", HandBack()))
    assert case.scores("prioritized")["1"] == 2 * 2**32
    assert list(case.scores("prioritized")) == ["first", "1", "same"]


def test_hundreds_keep_their_order(case: Case) -> None:
    """Several script calls, each of which puts its jobs in front."""
    names = [str(number) for number in range(230)]
    case.waiting(*names)
    for _ in range(3):
        case.claim(limit=100)
    case.settle(*[(name, HandBack()) for name in names])
    assert case.items("wait") == names[::-1]


def test_mixed_with_others_each_gets_its_own_code(case: Case) -> None:
    """The script sees them in another order than the caller."""
    case.active("1", "2", "3", "4")
    case.redis.set(case.keys["3:lock"], "other")
    codes = case.settle(
        ("1", HandBack()), ("2", Complete(b"1", KEEP_ALL)), ("3", HandBack()), ("4", HandBack())
    )
    assert codes == [0, 0, -6, 0]
    assert case.items("wait") == ["4", "1"]


def test_a_paused_queue_gets_no_marker(case: Case) -> None:
    """Nobody may claim it now."""
    case.active("1")
    case.redis.hset(case.keys["meta"], "paused", 1)
    case.settle(("1", HandBack()))
    assert case.items("wait") == ["1"]
    assert not case.redis.exists(case.keys["marker"])


def test_twice_is_harmless(case: Case) -> None:
    """As for every settlement; the job must not be queued twice."""
    case.active("1")
    assert sorted(case.settle(("1", HandBack()), ("1", HandBack()))) == [-2, 0]
    assert case.settle(("1", HandBack())) == [-2]
    assert case.items("wait") == ["1"]


def test_not_being_active_is_no_error(case: Case) -> None:
    """3.16; and what is queued elsewhere already is not queued again."""
    case.active("1")
    case.redis.delete(case.keys["active"])
    assert case.settle(("1", HandBack())) == [0]
    assert case.items("wait") == []
    assert TOKEN not in (case.redis.get(case.keys["1:lock"]) or "")
