"""Taking back jobs whose worker is gone (protocol.md 3.18)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sandboxq.model.job import KEEP_ALL
from sandboxq.model.outcome import Complete, HandBack
from tests.broker.case import NOW, TOKEN

if TYPE_CHECKING:
    from tests.broker.case import Case


def test_two_passes_take_back_who_has_no_lock(case: Case) -> None:
    """The first notes who is active; a job is lost when it has not renewed until the second."""
    case.active("dead", "alive")
    case.waiting("w")
    assert case.recover() == []
    assert case.redis.smembers(case.keys["stalled"]) == {"dead", "alive"}
    case.redis.delete(case.keys["dead:lock"])

    assert case.recover() == ["dead"]

    assert case.items("wait") == ["w", "dead"], "in front"
    assert case.items("active") == ["alive"]
    fields = case.hash("dead")
    assert (fields["stc"], "defa" in fields, "atm" in fields) == ("1", False, False)
    assert case.events() == [
        {"event": "waiting", "jobId": "dead", "prev": "active"},
        {"event": "stalled", "jobId": "dead"},
    ]
    assert case.scores("marker") == {"0": 0.0}
    assert case.redis.smembers(case.keys["stalled"]) == {"alive"}


def test_a_renewed_job_is_no_suspect(case: Case) -> None:
    """A heartbeat between the passes takes it off the list, whatever its lock does later."""
    case.active("1")
    case.recover()
    case.extend(("1", TOKEN))
    case.redis.delete(case.keys["1:lock"])
    assert case.recover() == []
    assert case.recover() == ["1"]


def test_one_pass_in_each_interval(case: Case) -> None:
    """However many workers ask."""
    case.active("1")
    assert case.recover_guarded() == []
    assert case.redis.get(case.keys["stalled-check"]) == str(NOW)
    assert 20_000 < case.redis.pttl(case.keys["stalled-check"]) <= 30_000
    case.redis.delete(case.keys["1:lock"])
    assert case.recover_guarded() == []
    assert case.items("active") == ["1"]


def test_stalled_too_often(case: Case) -> None:
    """It goes back with a deferred failure, which its next claimer must honour."""
    case.active("1", stc=1)
    case.recover()
    case.redis.delete(case.keys["1:lock"])
    case.recover(max_stalled_count=1)
    fields = case.hash("1")
    assert (fields["stc"], fields["defa"]) == ("2", "job stalled more than allowable limit")
    assert case.claim().jobs[0].deferred_failure == b"job stalled more than allowable limit"


@pytest.mark.parametrize("known_by", ["hash", "score"])
def test_iterations_of_a_scheduler_never_fail_so(case: Case, known_by: str) -> None:
    """Else the schedule would end with them."""
    case.active("1", rjk="s")
    if known_by == "hash":
        case.redis.hset(case.keys["repeat:s"], "ic", 1)
    else:
        case.redis.zadd(case.keys["repeat"], {"s": 1})
    case.recover()
    case.redis.delete(case.keys["1:lock"])
    assert case.recover(max_stalled_count=0) == ["1"]
    assert "defa" not in case.hash("1")


def test_a_prioritized_job_goes_to_wait(case: Case) -> None:
    """As in Node: it has waited long enough."""
    case.active("1", priority=3)
    case.recover()
    case.redis.delete(case.keys["1:lock"])
    case.recover()
    assert case.items("wait") == ["1"]


def test_a_paused_v5_queue(case: Case) -> None:
    """The list that survives a v5 resume, and no marker."""
    case.active("1")
    case.recover()
    case.redis.delete(case.keys["1:lock"])
    case.redis.hset(case.keys["meta"], mapping={"paused": 1, "version": "bullmq:5.60.0"})
    case.recover()
    assert case.items("paused") == ["1"]
    assert not case.redis.exists(case.keys["marker"])


def test_ghosts_are_dropped(case: Case) -> None:
    """An active id without a job would otherwise go round for ever."""
    case.redis.lpush(case.keys["active"], "ghost")
    case.recover()
    assert case.recover() == []
    assert case.items("active") == case.items("wait") == []
    assert case.keys_of("ghost") == set()


def test_many(case: Case) -> None:
    """A dead machine's jobs come back a thousand at a pass; nobody is forgotten."""
    pipe = case.redis.pipeline()
    for number in range(1300):
        pipe.hset(case.keys[str(number)], "name", "n")
        pipe.lpush(case.keys["active"], number)
    pipe.execute()
    case.recover()
    assert len(case.recover()) == 1000
    assert len(case.recover()) == 300
    assert case.items("active") == []
    assert case.redis.llen(case.keys["wait"]) == 1300


def test_an_id_without_a_job_that_is_dropped_lets_others_in(case: Case) -> None:
    """At a concurrency limit a ghost keeps a place; once it is gone a worker must hear of it."""
    case.active("ghost")
    case.redis.hset(case.keys["meta"], "concurrency", 1)
    case.waiting("next")
    case.redis.delete(case.keys["ghost:lock"], case.keys["ghost"])

    assert [case.recover(), case.recover()] == [[], []]

    assert case.items("active") == []
    assert case.scores("marker") == {"0": 0.0}


def test_the_next_pass_of_the_same_worker_finds_its_time_come(case: Case) -> None:
    """It set the guard for just as long as it slept, and skipped every third check."""
    case.active("1")
    assert case.recover_guarded() == []
    assert case.redis.pttl(case.keys["stalled-check"]) < 29_500


def test_a_call_that_was_held_up_does_nothing(case: Case) -> None:
    """Redis stood still, or the network: nobody could renew, and all would be taken for dead."""
    case.active("1")
    case.recover()
    case.redis.delete(case.keys["1:lock"], case.keys["stalled-check"])

    late = time.time_ns() // 1_000_000 - 5_000
    assert case.recover_guarded(now_ms=late, is_server_time=True) == []
    assert case.items("active") == ["1"]
    assert case.redis.exists(case.keys["stalled-check"]) == 0

    now = time.time_ns() // 1_000_000
    assert case.recover_guarded(now_ms=now, is_server_time=True) == ["1"]


def test_what_was_claimed_ahead_counts_no_stall(case: Case) -> None:
    """Nobody ran it: a worker that is killed twice under a backlog failed a hundred such jobs."""
    case.waiting("a", "b", "c")
    case.claim_bounded(limit=10, at_once=1)
    assert case.redis.smembers(case.keys.ahead) == {"b", "c"}
    case.recover()
    case.redis.delete(*(case.keys[f"{job_id}:lock"] for job_id in "abc"))

    assert set(case.recover()) == {"a", "b", "c"}

    assert [case.hash(job_id).get("stc") for job_id in "abc"] == ["1", None, None]
    assert not case.redis.exists(case.keys.ahead)
    assert sorted(case.items("wait")) == ["a", "b", "c"]


def test_what_others_take_back_is_no_longer_ahead(case: Case) -> None:
    """A check of a worker in Node knows nothing of it; the next one of ours does."""
    case.active("a", "here")
    case.redis.sadd(case.keys.ahead, "a", "here")
    case.redis.lrem(case.keys["active"], 1, "a")
    case.recover()
    assert case.redis.smembers(case.keys.ahead) == {"here"}
    case.redis.lrem(case.keys["active"], 1, "here")
    case.recover()
    assert not case.redis.exists(case.keys.ahead)


def test_what_ends_is_no_longer_ahead(case: Case) -> None:
    """Else its next run would count as one that never began."""
    case.waiting("a", "b", "c")
    case.claim_bounded(limit=10, at_once=0)
    case.settle(("a", Complete(b"1", KEEP_ALL)), ("b", HandBack()))
    assert case.redis.smembers(case.keys.ahead) == {"c"}
