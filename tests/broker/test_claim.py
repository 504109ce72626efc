"""Claiming, against the key-level facts of protocol.md 3.6."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.broker.commands.claim import MAX_CLAIM, NO_BOUNDS, Claimant, arguments_of
from sandboxq.broker.connect.script import load
from sandboxq.model.job import KEEP_ALL
from sandboxq.model.outcome import Complete, Crashes
from tests.broker.case import NOW, TOKEN

if TYPE_CHECKING:
    from sandboxq.broker.commands.claim import Claim
    from tests.broker.case import Case

P = 2**32


def ids(claim: Claim) -> list[str]:
    """Return the claimed ids in order."""
    return [job.id.decode() for job in claim.jobs]


def test_claims_a_batch_in_order(case: Case) -> None:
    """First in, first out; active has the newest at its head, as single claims leave it."""
    case.waiting("a", "b", "c")

    claim = case.claim(limit=2)

    assert ids(claim) == ["a", "b"]
    assert case.items("active") == ["b", "a"]
    assert case.items("wait") == ["c"]
    assert claim[1:] == (0, 0, False)


def test_writes_lock_hash_event_and_marker(case: Case) -> None:
    """Other workers and dashboards see exactly this of a claim."""
    case.waiting("1")

    case.claim(worker_name="w1", lock_ms=5000)

    assert case.redis.get(case.keys["1:lock"]) == TOKEN
    assert 4000 < case.redis.pttl(case.keys["1:lock"]) <= 5000
    fields = case.hash("1")
    assert (fields["processedOn"], fields["ats"], fields["pb"]) == (str(NOW), "1", "w1")
    assert case.events() == [{"event": "active", "jobId": "1", "prev": "waiting"}]
    assert list(case.events()[0]) == ["event", "jobId", "prev"]
    assert case.scores("marker") == {"0": 0.0}


@pytest.mark.parametrize(("limit", "marker"), [(1, {"0": 0.0}), (2, {"0": 0.0}), (3, {})])
def test_who_comes_with_a_marker_sets_none_where_nothing_is_left(
    case: Case, limit: int, marker: dict[str, float]
) -> None:
    """Else each job that comes alone would wake its worker a second time, in vain."""
    case.waiting("1", "2")
    arguments = ("", *arguments_of(Claimant(30_000), limit, TOKEN, NO_BOUNDS), 0)

    case.run(lambda broker: broker.script(load("claim"), (case.keys.base,), arguments))

    assert case.scores("marker") == marker


def test_no_name_no_pb(case: Case) -> None:
    """`pb` exists only for workers that have a name."""
    case.waiting("1")
    case.claim()
    assert "pb" not in case.hash("1")


def test_returns_the_fields_as_bytes(case: Case) -> None:
    """The coordinator decodes no data: texts arrive untouched, counters as numbers."""
    key = case.job("1", name="né", atm=2, ats=3, stc=1, defa="d", parent="{}", parentKey="b:q:p")
    case.redis.hset(key, mapping={"data": b'\xff\x00"', "progress": "7", "rjk": "s"})
    case.redis.hset(key, mapping={"deid": "x", "failedReason": "boom"})
    case.redis.lpush(case.keys["wait"], "1")

    job = case.claim().jobs[0]

    assert job == (
        b"1",
        "né".encode(),
        b'\xff\x00"',
        b"{}",
        str(NOW - 1000).encode(),
        b"0",
        b"0",
        False,
        NOW,
        2,
        4,
        1,
        b"d",
        b"{}",
        b"b:q:p",
        b"7",
        b"s",
        Crashes(),
        b"",
        "",
        b"x",
        b"boom",
    )


def test_absent_fields_are_empty(case: Case) -> None:
    """A caller need not know which fields a producer left out."""
    case.redis.hset(case.keys["1"], "name", "n")
    case.redis.lpush(case.keys["wait"], "1")
    job = case.claim().jobs[0]
    texts = (b"", b"", b"", b"", b"")
    nothing = (b"", b"", b"", b"", b"", Crashes(), b"", "", b"", b"")
    assert job[2:] == (*texts, False, NOW, 0, 1, 0, *nothing)


def test_crashes_of_earlier_attempts_are_told(case: Case) -> None:
    """Who settles the next attempt must know them without asking."""
    crashed = {"sq:crashes": "2", "sq:history": "SIGSEGV, exit code 3", "processedOn": NOW}
    case.job("1", **crashed)
    case.redis.lpush(case.keys["wait"], "1")
    assert case.claim().jobs[0].crashes == Crashes(2, ("SIGSEGV", "exit code 3"))


def test_crashes_before_a_retry_by_hand_count_no_more(case: Case) -> None:
    """Node's retry knows nothing of our fields, but takes away when the job was begun."""
    case.job("1", **{"sq:crashes": "2", "sq:history": "a, b", "sq:beside": "1", "sq:cause": "X"})
    case.redis.lpush(case.keys["wait"], "1")
    assert case.claim().jobs[0].crashes == Crashes()
    assert [name for name in case.hash("1") if name.startswith("sq:")] == ["sq:cause"]


def test_wait_goes_before_prioritized_and_lower_numbers_first(case: Case) -> None:
    """One batch keeps the order that single claims would have."""
    case.waiting("plain")
    for job_id, score in (("p2", 2 * P + 1), ("p1b", P + 3), ("p1a", P + 2)):
        case.job(job_id, priority=1)
        case.redis.zadd(case.keys["prioritized"], {job_id: score})
    case.redis.set(case.keys["pc"], 3)

    assert ids(case.claim(limit=3)) == ["plain", "p1a", "p1b"]
    assert case.redis.get(case.keys["pc"]) == "3"
    assert ids(case.claim(limit=3)) == ["p2"]
    assert case.items("active") == ["p2", "p1b", "p1a", "plain"]
    assert not case.redis.exists(case.keys["pc"]), "deleted once prioritized was found empty"


def test_due_jobs_are_promoted_first(case: Case) -> None:
    """Nobody else moves delayed jobs: who claims does."""
    for job_id, due, priority in (("d1", NOW, 0), ("d2", NOW - 5, 0), ("dp", NOW, 3)):
        case.job(job_id, delay=500, priority=priority)
        case.redis.zadd(case.keys["delayed"], {job_id: due * 4096})
    case.job("later", delay=10_000)
    case.redis.zadd(case.keys["delayed"], {"later": (NOW + 1) * 4096})

    claim = case.claim(limit=2)

    assert ids(claim) == ["d2", "d1"]
    assert case.scores("prioritized") == {"dp": 3 * P + 1}
    assert case.scores("delayed") == {"later": (NOW + 1) * 4096}
    assert [case.hash(i)["delay"] for i in ("d1", "d2", "dp", "later")] == ["0", "0", "0", "10000"]
    assert case.events()[:3] == [
        {"event": "waiting", "jobId": i, "prev": "delayed"} for i in ("d2", "d1", "dp")
    ]


def test_at_most_a_thousand_are_promoted(case: Case) -> None:
    """A flood of due jobs must not hold Redis."""
    pipe = case.redis.pipeline()
    for number in range(1500):
        pipe.hset(case.keys[str(number)], mapping={"name": "n", "priority": 0})
        pipe.zadd(case.keys["delayed"], {str(number): (NOW - 2000 + number) * 4096})
    pipe.execute()

    case.claim(limit=1)

    assert case.redis.zcard(case.keys["delayed"]) == 500
    assert case.redis.llen(case.keys["wait"]) == 999


def test_nothing_there_tells_when_something_will_be(case: Case) -> None:
    """The claimer sleeps until then; a fraction of a millisecond is cut."""
    assert case.claim() == ([], 0, 0, False)
    case.job("later")
    case.redis.zadd(case.keys["delayed"], {"later": (NOW + 700) * 4096 + 17})
    assert case.claim() == ([], 0, NOW + 700, False)
    assert case.events() == []
    assert not case.redis.exists(case.keys["marker"])


def test_a_short_batch_tells_it_too(case: Case) -> None:
    """When fewer jobs came than were asked for, the claimer knows how long to wait for more."""
    case.job("later")
    case.redis.zadd(case.keys["delayed"], {"later": (NOW + 700) * 4096})
    case.waiting("1", "2")
    assert case.claim(limit=1).next_delayed_ms == 0
    assert case.claim(limit=2).next_delayed_ms == NOW + 700


@pytest.mark.parametrize("limit", [{"paused": 1}, {"concurrency": 1}])
def test_a_queue_that_gives_nothing_tells_it_too(case: Case, limit: dict[str, int]) -> None:
    """Where nothing waits, no marker says that there is room again."""
    case.active("runs")
    case.redis.hset(case.keys["meta"], mapping=limit)
    case.job("later")
    case.redis.zadd(case.keys["delayed"], {"later": (NOW + 700) * 4096})

    assert case.claim() == ([], 0, NOW + 700, True)

    case.settle(("runs", Complete(b"1", KEEP_ALL)))
    assert case.scores("marker") == {}


def test_paused_claims_nothing_but_promotes(case: Case) -> None:
    """What is due waits; v6 puts it into wait, and no marker is set."""
    case.redis.hset(case.keys["meta"], "paused", 1)
    case.waiting("1")
    case.job("d", delay=5)
    case.redis.zadd(case.keys["delayed"], {"d": NOW * 4096})

    assert case.claim() == ([], 0, 0, True)
    assert case.items("wait") == ["d", "1"]
    assert not case.redis.exists(case.keys["marker"], case.keys["active"])


@pytest.mark.parametrize("how", ["version", "list"])
def test_paused_by_v5_promotes_to_its_list(case: Case, how: str) -> None:
    """v5 renames `paused` over `wait` when it resumes: what is in wait by then is lost (9.2)."""
    case.redis.hset(case.keys["meta"], "paused", 1)
    if how == "version":
        case.redis.hset(case.keys["meta"], "version", "bullmq:5.81.5")
    else:
        case.redis.lpush(case.keys["paused"], "old")
    case.job("d", delay=5)
    case.redis.zadd(case.keys["delayed"], {"d": NOW * 4096})

    case.claim()

    assert case.items("paused")[0] == "d"
    assert case.items("wait") == []


def test_global_concurrency_clips_the_batch(case: Case) -> None:
    """A batch must not run more jobs at once than the queue allows over all workers."""
    case.redis.hset(case.keys["meta"], "concurrency", 3)
    case.waiting("1", "2", "3", "4")
    assert ids(case.claim(limit=2)) == ["1", "2"]
    assert ids(case.claim(limit=2)) == ["3"]
    assert case.claim(limit=2) == ([], 0, 0, True)
    assert case.items("wait") == ["4"]


def test_a_batch_never_exceeds_the_rate_limit(case: Case) -> None:
    """The first claim of a window starts it; when it is used up, claims tell how long to wait."""
    case.waiting("1", "2", "3", "4", "5")

    assert ids(case.claim(limit=2, limiter=(3, 60_000))) == ["1", "2"]
    assert case.redis.get(case.keys["limiter"]) == "2"
    assert 50_000 < case.redis.pttl(case.keys["limiter"]) <= 60_000
    assert ids(case.claim(limit=2, limiter=(3, 60_000))) == ["3"]
    limited = case.claim(limit=2, limiter=(3, 60_000))
    assert limited.jobs == []
    assert 50_000 < limited.rate_limit_ms <= 60_000
    assert case.items("wait") == ["5", "4"]


def test_the_queues_own_limit_goes_first(case: Case) -> None:
    """`max` of the queue before that of the worker, `duration` the other way round."""
    case.redis.hset(case.keys["meta"], mapping={"max": 1, "duration": 90_000})
    case.waiting("1", "2")
    assert ids(case.claim(limit=5, limiter=(100, 20_000))) == ["1"]
    assert case.redis.pttl(case.keys["limiter"]) <= 20_000
    case.redis.delete(case.keys["limiter"])
    assert ids(case.claim(limit=5)) == ["2"]
    assert 20_000 < case.redis.pttl(case.keys["limiter"]) <= 90_000


def test_a_limit_set_by_hand_needs_no_maximum(case: Case) -> None:
    """Who says that the queue must rest means every worker; Node's heed it only with a limiter."""
    case.redis.set(case.keys["limiter"], 2**53 - 1, px=40_000)
    case.waiting("1", "2")
    assert case.claim(limit=1).rate_limit_ms > 30_000
    assert case.claim(limit=1, limiter=(5, 1000)).rate_limit_ms > 30_000


def test_another_workers_window_stops_no_worker_without_a_limit(case: Case) -> None:
    """As in Node: the counter is a limit only where there is a maximum."""
    case.redis.set(case.keys["limiter"], 1000, px=40_000)
    case.waiting("1")
    assert ids(case.claim(limit=1)) == ["1"]


def test_a_window_without_end_is_over(case: Case) -> None:
    """A counter that nobody gave an expiry would otherwise stop the queue for good."""
    case.redis.set(case.keys["limiter"], 10)
    case.waiting("1", "2", "3")
    assert ids(case.claim(limit=5, limiter=(2, 1000))) == ["1", "2"]
    assert case.redis.pttl(case.keys["limiter"]) > 0


def test_deferred_failures_do_not_use_up_the_limit(case: Case) -> None:
    """They are claimed only to be failed (6.2.2)."""
    case.waiting("bad", defa="child failed")
    case.waiting("good")
    claim = case.claim(limit=2, limiter=(2, 1000))
    assert [job.deferred_failure for job in claim.jobs] == [b"child failed", b""]
    assert case.redis.get(case.keys["limiter"]) == "1"


def test_ghosts_are_dropped(case: Case) -> None:
    """An id without a job cannot be run: it leaves the queue, and nothing is written for it."""
    case.redis.lpush(case.keys["wait"], "ghost", "0:5")
    case.waiting("1")

    claim = case.claim(limit=2)

    assert ids(claim) == []
    assert case.items("active") == []
    assert not case.redis.exists(case.keys["ghost"], case.keys["ghost:lock"], case.keys["0:5"])
    assert case.scores("marker") == {"0": 0.0}, "so that the claimer asks again at once"
    assert ids(case.claim(limit=2)) == ["1"]


def test_a_ghost_in_delayed_disappears(case: Case) -> None:
    """Promotion must not make a hash of nothing but a delay."""
    case.redis.zadd(case.keys["delayed"], {"ghost": NOW * 4096})
    assert case.claim() == ([], 0, 0, False)
    assert case.keys_of("ghost") == set()


def test_asking_for_nothing_changes_nothing(case: Case) -> None:
    """A full pool has no room; it must not lose jobs to a count of 0."""
    case.waiting("1")
    assert case.claim(limit=0) == ([], 0, 0, False)
    assert case.items("wait") == ["1"]


def test_a_claim_has_its_most(case: Case) -> None:
    """Redis answers nobody else meanwhile."""
    case.waiting(*map(str, range(MAX_CLAIM + 20)))
    assert len(case.claim(limit=1000).jobs) == MAX_CLAIM


def test_bytes_bound_a_claim_and_what_is_too_much_stays_where_it_was(case: Case) -> None:
    """Eight jobs of megabytes at once never arrive over a slow link, and hold up everybody."""
    case.waiting("a", "b", "c", data="x" * 1000)
    case.job("p", data="x" * 1000, priority=3)
    case.redis.zadd(case.keys["prioritized"], {"p": 3 * P + 7})
    score = case.redis.zscore(case.keys["prioritized"], "p")

    claim = case.claim_bounded(limit=10, max_bytes=2100)

    assert ids(claim) == ["a", "b"]
    assert case.items("active") == ["b", "a"]
    assert case.items("wait") == ["c"]
    assert case.redis.zscore(case.keys["prioritized"], "p") == score
    assert case.redis.exists(case.keys["c:lock"], case.keys["p:lock"]) == 0
    assert case.scores("marker") == {"0": 0.0}
    # One is always brought, however large it is.
    assert ids(case.claim_bounded(limit=10, max_bytes=1)) == ["c"]
    assert ids(case.claim_bounded(limit=10, max_bytes=1)) == ["p"]


def test_a_ghost_behind_the_bytes_is_dropped_by_the_next_claim(case: Case) -> None:
    """An id without a job must not be returned, nor keep others from being claimed."""
    case.waiting("a", data="x" * 1000)
    case.redis.lpush(case.keys["wait"], "ghost")
    case.waiting("b", data="x" * 1000)

    assert ids(case.claim_bounded(limit=10, max_bytes=10)) == ["a"]
    assert ids(case.claim_bounded(limit=10, max_bytes=10)) == ["b"]
    assert case.items("active") == ["b", "a"]
    assert case.items("wait") == []
