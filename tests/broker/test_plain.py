"""Plain jobs, of which nothing is read when they are completed: only where that is safe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.model.job import KEEP_ALL, KEEP_NONE, Keep
from sandboxq.model.outcome import Complete, HandBack
from tests.broker.case import NOW, TOKEN

if TYPE_CHECKING:
    from tests.broker.case import Case

DONE = Complete(b"1", KEEP_ALL)


def test_a_first_run_of_a_job_with_an_id_of_the_queue_is_plain(case: Case) -> None:
    """Most jobs are so."""
    case.waiting("1", priority=3)
    (job,) = case.claim().jobs
    assert job.is_plain
    assert (job.attempts_made, job.attempts_started, job.priority) == (0, 1, b"3")


def test_a_large_hash_is_plain_too(case: Case) -> None:
    """Redis keeps the fields of a large hash in no order."""
    case.waiting("1", data="x" * 1000)
    (job,) = case.claim().jobs
    assert job.is_plain
    assert (job.data, job.timestamp, job.delay) == (b"x" * 1000, str(NOW - 1000).encode(), b"0")


@pytest.mark.parametrize("job_id", ["a", "0", "01", "-1", "1.5", "9" * 16, "repeat:s:1", "1\n"])
def test_an_id_that_an_add_may_name_is_not_plain(case: Case, job_id: str) -> None:
    """Such a job can be given a parent while it is active (protocol.md 3.4)."""
    case.waiting(job_id)
    (job,) = case.claim().jobs
    assert job.id == job_id.encode()
    assert not job.is_plain


@pytest.mark.parametrize(
    "more", [{"atm": 1}, {"deid": "d"}, {"parentKey": "p"}, {"rjk": "s"}, {"stc": 1}]
)
def test_a_job_with_a_history_is_not_plain(case: Case, more: dict[str, Any]) -> None:
    """What must be read when it ends stands in its hash."""
    case.waiting("1", **more)
    assert not case.claim().jobs[0].is_plain


@pytest.mark.parametrize("keep", [KEEP_ALL, KEEP_NONE, Keep(count=1), Keep(age=0.001)])
def test_leaves_what_reading_would_leave(case: Case, keep: Keep) -> None:
    """Nobody can see which way a job was completed."""
    left = []
    for is_plain in (True, False):
        case.redis.delete(*case.redis.keys(f"{case.keys.base}*"))
        case.active("1", "2", "3")
        case.plain = dict.fromkeys(("1", "2", "3"), is_plain)
        assert case.settle(("2", Complete(b"7", keep)), ("1", Complete(b"8", keep))) == [0, 0]
        hashes = {job_id: case.hash(job_id) for job_id in ("1", "2")}
        sets = (case.scores("completed"), case.items("active"), case.scores("marker"))
        left.append((hashes, sets, case.events(), sorted(case.redis.keys(f"{case.keys.base}*"))))

    assert left[0] == left[1]


def test_a_job_that_is_gone_leaves_no_hash(case: Case) -> None:
    """What was only written to, not read, would come to life as a job without a name."""
    case.active("1", "2")
    case.redis.delete(case.keys["1"])

    assert case.settle(("1", DONE), ("2", DONE)) == [-1, 0]

    assert not case.redis.exists(case.keys["1"])
    assert case.items("active") == ["1"]
    assert case.scores("completed") == {"2": NOW + 5}


def test_another_lock_is_respected(case: Case) -> None:
    """What the claim told is worth something only under its own lock."""
    case.active("1", "2", "3")
    case.redis.set(case.keys["1:lock"], "theirs")
    case.redis.delete(case.keys["2:lock"])

    assert case.settle(("1", DONE), ("2", DONE), ("3", DONE)) == [-6, -2, 0]

    assert case.items("active") == ["2", "1"]
    assert case.hash("1").keys().isdisjoint({"returnvalue", "atm"})


def test_a_job_that_was_claimed_again_meanwhile_is_read(case: Case) -> None:
    """Without its lock, which this worker takes again, nobody knows what happened since."""
    case.active("1")
    case.redis.hset(case.keys["1"], mapping={"atm": 4, "ats": 5})
    case.redis.delete(case.keys["1:lock"])

    assert case.settle(("1", DONE), retake=True) == [0]

    assert (case.hash("1")["atm"], case.hash("1")["ats"]) == ("5", "5")


def test_children_that_it_got_while_active_hold_it_back(case: Case) -> None:
    """Any job may be given children by its processor."""
    case.active("1", "2", "3")
    case.redis.sadd(case.keys["1:dependencies"], case.keys["9"])
    case.redis.zadd(case.keys["2:unsuccessful"], {case.keys["9"]: 1})

    assert case.settle(("1", DONE), ("2", DONE), ("3", DONE)) == [-4, -9, 0]

    assert case.items("active") == ["2", "1"]


def test_one_that_cannot_be_written_keeps_its_lock(case: Case) -> None:
    """It stays active alone: the jobs before it and those behind it have arrived."""
    ids = [str(number) for number in range(1, 7)]
    case.active(*ids)
    case.redis.delete(case.keys["2"])
    case.redis.set(case.keys["2"], "no hash")

    codes = case.settle(*((job_id, DONE) for job_id in ids))

    assert codes == [0, -12, 0, 0, 0, 0]
    assert sorted(case.scores("completed")) == [each for each in ids if each != "2"]
    assert case.items("active") == ["2"]
    locks = [case.redis.exists(case.keys[f"{job_id}:lock"]) for job_id in ids]
    assert locks == [0, 1, 0, 0, 0, 0]


def test_twice_in_one_call_is_once(case: Case) -> None:
    """A batch that is sent again may meet itself."""
    case.active("1", "2", "3")
    endings = [(job_id, DONE) for job_id in ("1", "1", "2", "3")]
    assert case.settle(*endings) == [0, -2, 0, 0]
    ended = [event["jobId"] for event in case.events() if event["event"] == "completed"]
    assert ended == ["1", "2", "3"]


def test_others_keep_their_places_in_active(case: Case) -> None:
    """The oldest are taken out for a moment; afterwards the rest stands as it did."""
    ids = [str(number) for number in range(1, 11)]
    case.active(*ids)

    endings = (("2", DONE), ("9", DONE), ("4", DONE), ("3", HandBack()))
    assert case.settle(*endings) == [0, 0, 0, 0]

    assert case.items("active") == ["10", "8", "7", "6", "5", "1"]
    assert case.redis.get(case.keys["1:lock"]) == TOKEN


def test_a_second_entry_in_active_stays(case: Case) -> None:
    """Whoever put it there twice is told nothing else than before."""
    case.active("1", "2", "3", "4")
    case.redis.rpush(case.keys["active"], "1")
    endings = [(job_id, DONE) for job_id in ("1", "2", "3", "4")]
    assert case.settle(*endings) == [0, 0, 0, 0]
    assert case.items("active") == ["1"]
