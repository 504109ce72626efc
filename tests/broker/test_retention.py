"""Which finished jobs stay, and what is counted of them (protocol.md 3.10, 3.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.model.job import KEEP_ALL, KEEP_NONE, Keep
from sandboxq.model.outcome import Complete, Fail, Failed
from tests.broker.case import NOW

if TYPE_CHECKING:
    from tests.broker.case import Case

THEN = NOW + 5


def finished(case: Case, ages: dict[str, int], suffix: str = "completed") -> None:
    """Store finished jobs: id to its age in seconds."""
    for job_id, age in ages.items():
        case.job(job_id)
        case.redis.rpush(case.keys[job_id + ":logs"], "line")
        case.redis.zadd(case.keys[suffix], {job_id: THEN - age * 1000})


def test_by_count(case: Case) -> None:
    """The newest stay, the one just finished among them; the others go with all their keys."""
    finished(case, {"a": 30, "b": 20, "c": 10})
    case.active("1")
    case.settle(("1", Complete(b"1", Keep(count=2))))
    assert list(case.scores("completed")) == ["c", "1"]
    assert case.keys_of("a") == case.keys_of("b") == set()
    assert case.keys_of("c") == {"c", "c:logs"}
    assert [e["event"] for e in case.events()] == ["completed", "drained"]


def test_by_count_over_a_batch(case: Case) -> None:
    """Many finish in one call; the count holds at its end."""
    case.active("1", "2", "3")
    case.settle(*[(i, Complete(b"1", Keep(count=1))) for i in "123"])
    assert list(case.scores("completed")) == ["3"]
    assert case.keys_of("1") == case.keys_of("2") == set()


def test_by_age(case: Case) -> None:
    """What is as old or older goes."""
    finished(case, {"old": 100, "exact": 60, "young": 59})
    case.active("1")
    case.settle(("1", Complete(b"1", Keep(age=60))))
    assert list(case.scores("completed")) == ["young", "1"]
    assert case.keys_of("exact") == set()


def test_by_a_part_of_a_millisecond(case: Case) -> None:
    """What has just finished is not older than that; with an age of nothing it is as old."""
    case.active("1", "2")
    case.settle(("1", Complete(b"1", Keep(age=0.0005))))
    assert list(case.scores("completed")) == ["1"]
    case.settle(("2", Complete(b"1", Keep(age=0))))
    assert case.scores("completed") == {}


def test_by_age_with_limit(case: Case) -> None:
    """No more than the limit for each finishing job, the newest of the old first."""
    finished(case, {"a": 90, "b": 80, "c": 70, "d": 60})
    case.active("1", "2", "3")
    keep = Keep(age=60, limit=1)
    case.settle(("1", Complete(b"1", keep)))
    assert list(case.scores("completed")) == ["a", "b", "c", "1"]
    case.settle(("2", Complete(b"1", keep)), ("3", Complete(b"1", keep)))
    assert list(case.scores("completed")) == ["a", "1", "2", "3"]


def test_failed_jobs_have_their_own_rule(case: Case) -> None:
    """The two sets are trimmed apart."""
    finished(case, {"c": 10})
    finished(case, {"f": 10}, "failed")
    case.active("1", "2")
    case.settle(("1", Fail(Failed(""), Keep(count=1), None, 1)), ("2", Complete(b"1", KEEP_ALL)))
    assert list(case.scores("failed")) == ["1"]
    assert list(case.scores("completed")) == ["c", "2"]


def test_different_rules_in_one_batch(case: Case) -> None:
    """Each is applied when its own job finishes, as if they had come one by one."""
    case.active("1", "2", "3", "4")
    case.settle(
        ("1", Complete(b"1", KEEP_ALL)),
        ("2", Complete(b"1", Keep(count=1))),
        ("3", Complete(b"1", KEEP_NONE)),
        ("4", Complete(b"1", KEEP_ALL)),
    )
    assert list(case.scores("completed")) == ["2", "4"]


def test_a_flood_goes_piece_by_piece(case: Case) -> None:
    """A queue that kept everything for months must not hold Redis when somebody sets a count."""
    pipe = case.redis.pipeline()
    for number in range(2500):
        pipe.hset(case.keys[f"x{number}"], "name", "n")
        pipe.zadd(case.keys["completed"], {f"x{number}": number})
    pipe.execute()
    case.active("1", "2", "3")
    for job_id, left in (("1", 1501), ("2", 502), ("3", 1)):
        case.settle((job_id, Complete(b"1", Keep(count=1))))
        assert case.redis.zcard(case.keys["completed"]) == left
    assert list(case.scores("completed")) == ["3"]


def test_removed_children_let_their_parent_go(case: Case) -> None:
    """A parent must not wait for a child that no longer exists (soft unlink, 3.21)."""
    case.job("p")
    case.redis.zadd(case.keys["waiting-children"], {"p": NOW})
    case.job("old", parentKey=case.keys["p"])
    case.redis.sadd(case.keys["p:dependencies"], case.keys["old"])
    case.redis.zadd(case.keys["failed"], {"old": THEN - 1000})
    case.active("1")
    case.settle(("1", Fail(Failed(""), Keep(count=1), None, 1)))
    assert case.items("wait") == ["p"]
    assert {"event": "waiting", "jobId": "p", "prev": "waiting-children"} in case.events()


# ── metrics ─────────────────────────────────────────────────────────────────


def test_metrics_are_off_unless_asked_for(case: Case) -> None:
    """They cost Redis something."""
    case.active("1")
    case.settle(("1", Complete(b"1", KEEP_ALL)))
    assert not case.redis.exists(case.keys["metrics:completed"])


def test_metrics_by_minute(case: Case) -> None:
    """The total is exact; the minutes lag by the running one, newest first, with zeros between."""
    case.active(*"123456")
    minute = 60_000

    def settle(*job_ids: str, at: int) -> None:
        case.settle(
            *[(i, Complete(b"1", KEEP_ALL)) for i in job_ids], now_ms=NOW + at, metrics_points=4
        )

    settle("1", "2", at=0)
    assert case.redis.hgetall(case.keys["metrics:completed"]) == {
        "count": "2",
        "prevTS": str(NOW),
        "prevCount": "0",
    }
    settle("3", at=1)
    assert case.items("metrics:completed:data") == []
    settle("4", "5", at=3 * minute)
    assert case.items("metrics:completed:data") == ["0", "0", "3"]
    settle("6", at=5 * minute)
    assert case.items("metrics:completed:data") == ["0", "2", "0", "0"]
    stored = case.redis.hgetall(case.keys["metrics:completed"])
    assert stored == {"count": "6", "prevTS": str(NOW + 5 * minute), "prevCount": "5"}
