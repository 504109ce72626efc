"""Renewing locks (protocol.md 3.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.broker.case import TOKEN

if TYPE_CHECKING:
    from tests.broker.case import Case


def test_held_locks_last_longer_and_leave_the_suspects(case: Case) -> None:
    """A heartbeat is both: a later expiry, and proof of life to the stalled check."""
    case.active("1", "2")
    case.redis.sadd(case.keys["stalled"], "1", "2", "x")
    assert case.extend(("1", TOKEN), ("2", TOKEN), lock_ms=90_000) == []
    assert 80_000 < case.redis.pttl(case.keys["1:lock"]) <= 90_000
    assert case.redis.get(case.keys["2:lock"]) == TOKEN
    assert case.redis.smembers(case.keys["stalled"]) == {"x"}


def test_missing_and_foreign_locks_are_told(case: Case) -> None:
    """Those runs must end: somebody else owns, or will own, the job."""
    case.active("1", "2", "3")
    case.redis.set(case.keys["1:lock"], "other", px=1000)
    case.redis.delete(case.keys["2:lock"])
    case.redis.sadd(case.keys["stalled"], "1", "2", "3")
    held = [(job_id, TOKEN) for job_id in ("1", "2", "3")]
    assert case.extend(*held, lock_ms=90_000) == ["1", "2"]
    assert case.redis.pttl(case.keys["1:lock"]) <= 1000
    assert not case.redis.exists(case.keys["2:lock"])
    assert case.redis.smembers(case.keys["stalled"]) == {"1", "2"}


def test_locks_that_ran_out_are_taken_again(case: Case) -> None:
    """Redis was frozen for longer than a lock: while a job is active and unlocked, it is ours."""
    case.active("1", "2", "3")
    case.redis.delete(case.keys["1:lock"], case.keys["2:lock"])
    case.redis.set(case.keys["3:lock"], "other")
    case.redis.lrem(case.keys["active"], 1, "2")
    case.redis.sadd(case.keys["stalled"], "1")
    held = [(job_id, TOKEN) for job_id in ("1", "2", "3")]
    assert case.extend(*held, lock_ms=90_000, retake=True) == ["2", "3"]
    assert case.redis.get(case.keys["1:lock"]) == TOKEN
    assert 80_000 < case.redis.pttl(case.keys["1:lock"]) <= 90_000
    assert not case.redis.exists(case.keys["stalled"], case.keys["2:lock"])


def test_any_number(case: Case) -> None:
    """None at all, and more than one script call holds."""
    assert case.extend() == []
    held = [(str(number), TOKEN) for number in range(250)]
    assert case.extend(*held) == [job_id for job_id, _ in held]
