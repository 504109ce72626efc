"""Changing all jobs of a state: retry, promote, clean, drain (protocol.md 3.20, 3.21)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.commands import bulk
from sandboxq.broker.commands.change_job import Resets
from sandboxq.broker.connect.script import load
from sandboxq.broker.keys import QueueKeys
from sandboxq.model.job import JobState
from tests.broker.case import NOW

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sandboxq.broker.connect.broker import Broker
    from tests.broker.case import Case

SETS = ("prioritized", "delayed", "completed", "failed")
FRONT = 2**32
# When the oldest jobs of these tests finished.
OLD = NOW - 5000


def steps(case: Case, walk: Callable[[Broker], AsyncIterator[Any]]) -> list[Any]:
    """Return what each step of a walk yields."""

    async def body(broker: Broker) -> list[Any]:
        return [step async for step in walk(broker)]

    found: list[Any] = case.run(body)
    return found


def retried(
    case: Case, *, state: str = "failed", until_ms: int = NOW, limit: int | None = None
) -> list[int]:
    """Retry jobs; return how many each step took."""
    return steps(
        case,
        lambda broker: bulk.retry_all(
            *(broker, case.keys),
            state=JobState(state),
            until_ms=until_ms,
            limit=limit,
            resets=Resets(),
        ),
    )


def cleaned(
    case: Case, state: str, *, newest_ms: int = NOW, limit: int | None = None
) -> list[list[str]]:
    """Clean a state; return the ids that each step removed."""
    return steps(
        case,
        lambda broker: bulk.clean(
            broker, case.keys, state=JobState(state), newest_ms=newest_ms, limit=limit
        ),
    )


def drained(case: Case, *, with_delayed: bool = False) -> list[str]:
    """Drain; return the ids removed."""
    found = steps(case, lambda broker: bulk.drain(broker, case.keys, with_delayed=with_delayed))
    return [job_id for ids in found for job_id in ids]


def put(case: Case, state: str, *job_ids: str, **fields: Any) -> None:
    """Write jobs of a state, the first one oldest; their times are OLD and 1 ms apart."""
    before = case.redis.llen(case.keys[state]) if state not in SETS else 0
    for place, job_id in enumerate(job_ids, before):
        times = {"finishedOn": OLD + place} if state in {"completed", "failed"} else {}
        case.job(job_id, **{**times, **fields})
        if state in SETS:
            case.redis.zadd(case.keys[state], {job_id: OLD + place})
        else:
            case.redis.lpush(case.keys[state], job_id)


def names(count: int) -> list[str]:
    """Return so many job ids."""
    return [f"j{number}" for number in range(count)]


# ── retry ───────────────────────────────────────────────────────────────────


def test_many_jobs_are_retried_in_short_steps(case: Case) -> None:
    """Redis must go on serving others; the oldest are first in the queue again."""
    put(case, "failed", *names(1234), failedReason="x", atm=1)

    taken = retried(case)

    assert (sum(taken), max(taken)) == (1234, 100)
    assert case.items("wait") == names(1234)[::-1]
    assert case.scores("failed") == {}
    assert {"failedReason", "finishedOn"} & case.hash("j777").keys() == set()
    assert [event["jobId"] for event in case.events()] == names(1234)
    assert case.scores("marker") == {"0": 0.0}


def test_retried_jobs_go_where_they_belong(case: Case) -> None:
    """Node's bulk retry puts them all into `wait`, before all that have a priority."""
    put(case, "failed", "p", priority=4)
    put(case, "failed", "l", opts='{"lifo":true}')
    case.waiting("a")

    assert retried(case) == [2]

    assert (case.items("wait"), case.scores("prioritized")) == (["a", "l"], {"p": 4.0 * FRONT + 1})


def test_retries_stop_where_they_are_told_to(case: Case) -> None:
    """What failed later, and what is beyond the limit, stays."""
    put(case, "failed", *names(9))

    assert retried(case, until_ms=OLD + 4, limit=3) == [3]
    assert retried(case, until_ms=OLD + 4) == [2]
    assert retried(case, until_ms=OLD + 4) == []

    assert list(case.scores("failed")) == ["j5", "j6", "j7", "j8"]


def test_ids_without_a_job_are_dropped(case: Case) -> None:
    """They would stop the walk for ever."""
    case.redis.zadd(case.keys["failed"], {"ghost": 1})
    case.redis.zadd(case.keys["delayed"], {"ghost": 1})
    put(case, "failed", "f")
    put(case, "delayed", "d")

    assert sum(retried(case)) == 1
    assert sum(steps(case, lambda b: bulk.promote_all(b, case.keys, limit=None))) == 1

    assert (case.items("wait"), case.scores("failed"), case.scores("delayed")) == (
        ["d", "f"],
        {},
        {},
    )


# ── promote ─────────────────────────────────────────────────────────────────


def test_many_jobs_are_promoted(case: Case) -> None:
    """The earliest first, each with its priority, and none delayed any more."""
    put(case, "delayed", *names(1150), delay=5000)
    put(case, "delayed", "p", delay=5000, priority=2)
    case.redis.zadd(case.keys["delayed"], {"p": NOW})

    taken = steps(case, lambda broker: bulk.promote_all(broker, case.keys, limit=None))

    assert (sum(taken), max(taken)) == (1151, 100)
    assert case.items("wait") == names(1150)[::-1]
    assert case.scores("prioritized") == {"p": 2.0 * FRONT + 1}
    assert (case.hash("j3")["delay"], case.hash("p")["delay"]) == ("0", "0")


def test_promotion_stops_at_its_limit(case: Case) -> None:
    """The latest stay delayed."""
    put(case, "delayed", *names(5))

    assert steps(case, lambda broker: bulk.promote_all(broker, case.keys, limit=2)) == [2]

    assert list(case.scores("delayed")) == ["j2", "j3", "j4"]


# ── clean ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", ["waiting", "active", *SETS])
def test_old_jobs_are_cleaned(case: Case, state: str) -> None:
    """From the oldest on, with all that belongs to them, as many as asked for."""
    put(case, "wait" if state == "waiting" else state, *names(1105), timestamp=NOW - 7)
    case.redis.rpush(case.keys["j3:logs"], "line")
    case.redis.set(case.keys["de:D"], "j3")
    case.redis.hset(case.keys["j3"], "deid", "D")

    removed = cleaned(case, state, limit=1103)

    assert [job_id for ids in removed for job_id in ids] == names(1103)
    assert max(map(len, removed)) == 100
    left = (
        case.items("wait" if state == "waiting" else state)
        if state in {"waiting", "active"}
        else [*case.scores(state)]
    )
    assert sorted(left) == ["j1103", "j1104"]
    jobs = case.redis.keys(case.keys["j*"])
    assert sorted(jobs) == [case.keys["j1103"], case.keys["j1104"]]
    assert case.redis.exists(case.keys["de:D"]) == 0


@pytest.mark.parametrize(
    ("state", "times"),
    [
        ("wait", {"timestamp": NOW}),
        ("wait", {"timestamp": 5, "processedOn": NOW}),
        ("active", {"timestamp": 5, "processedOn": NOW}),
        ("delayed", {"timestamp": 5, "processedOn": NOW}),
        ("prioritized", {"timestamp": NOW}),
        ("completed", {"finishedOn": NOW, "timestamp": 5}),
        ("failed", {"finishedOn": NOW, "timestamp": 5}),
    ],
    ids=str,
)
def test_young_jobs_are_not_cleaned(case: Case, state: str, times: dict[str, int]) -> None:
    """Young is who was touched last, and each state has its own touch."""
    put(case, state, "old1", timestamp=5)
    put(case, state, "young", **times)
    put(case, state, "old2", timestamp=6)
    if state in {"completed", "failed"}:
        case.redis.zadd(case.keys[state], {"young": NOW})

    removed = cleaned(case, "waiting" if state == "wait" else state, newest_ms=NOW - 500)

    assert sorted(removed[0]) == ["old1", "old2"]
    assert case.keys_of("young") == {"young"}


def test_jobs_that_run_are_not_cleaned(case: Case) -> None:
    """Their worker holds the lock; one without a lock belongs to nobody."""
    case.active("held", "lost")
    case.redis.delete(case.keys["lost:lock"])

    assert cleaned(case, "active", newest_ms=NOW + 5) == [["lost"]]

    assert case.items("active") == ["held"]


@pytest.mark.parametrize("state", ["wait", "prioritized", "delayed"])
def test_schedulers_keep_their_next_iteration(case: Case, state: str) -> None:
    """Without it they would never run again; other jobs of theirs are like any."""
    case.redis.zadd(case.keys["repeat"], {"s": 5000})
    put(case, state, "a", "repeat:s:4000", "repeat:s:5000", "b", rjk="s")

    removed = cleaned(case, "waiting" if state == "wait" else state)
    kept = case.items(state) if state == "wait" else list(case.scores(state))

    assert removed == [["a", "repeat:s:4000", "b"]]
    assert kept == ["repeat:s:5000"]
    put(case, state, "c")
    assert drained(case, with_delayed=True) == ["c"]
    assert case.keys_of("repeat:s:5000") == {"repeat:s:5000"}


def test_cleaning_active_jobs_lets_others_in(case: Case) -> None:
    """At a concurrency limit they leave room: without a marker all workers would sleep on."""
    case.active("dead")
    case.redis.hset(case.keys["meta"], "concurrency", 1)
    case.waiting("next")
    case.redis.delete(case.keys["dead:lock"])

    assert cleaned(case, "active", newest_ms=NOW + 5) == [["dead"]]

    assert case.scores("marker") == {"0": 0.0}


def test_what_v5_keeps_paused_is_cleaned_too(case: Case) -> None:
    """Both lists hold waiting jobs (9.2)."""
    put(case, "wait", "a")
    put(case, "paused", "b")

    assert cleaned(case, "waiting") == [["a"], ["b"]]
    put(case, "paused", "c")
    assert drained(case) == ["c"]


def test_a_job_that_was_claimed_meanwhile_stays(case: Case) -> None:
    """Between reading the ids and the script a worker may have taken one."""
    put(case, "active", "a")
    put(case, "wait", "b")
    args = ("wait", "", 10, "a", "b", "gone")

    codes = case.run(lambda broker: broker.script(load("clean"), [case.keys.base], args))

    assert codes == [0, 1, 0]
    assert (case.items("active"), case.keys_of("a")) == (["a"], {"a"})


def test_listeners_hear_how_many_were_cleaned(case: Case) -> None:
    """One event, as Node's."""
    case.run(lambda broker: bulk.announce_cleaned(broker, case.keys, 7))

    assert case.events() == [{"event": "cleaned", "count": "7"}]


# ── drain ───────────────────────────────────────────────────────────────────


def test_a_drained_queue_keeps_what_does_not_wait(case: Case) -> None:
    """Delayed jobs too, unless asked for; no event tells of it."""
    case.active("a")
    put(case, "wait", *names(1050))
    put(case, "prioritized", "p")
    for state in ("delayed", "completed", "failed"):
        put(case, state, f"{state}-1")

    assert sorted(drained(case)) == sorted([*names(1050), "p"])
    assert list(case.scores("delayed")) == ["delayed-1"]
    assert drained(case, with_delayed=True) == ["delayed-1"]

    assert case.keys_of("a") == {"a", "a:lock"}
    assert [*case.scores("completed"), *case.scores("failed")] == ["completed-1", "failed-1"]
    assert (case.items("wait"), case.events()) == ([], [])


def test_parents_of_removed_children(case: Case) -> None:
    """One in another queue is woken; one in the same queue goes, as with Node."""
    other = QueueKeys(f"{case.keys.queue}-other")
    for keys, child in ((other, "c1"), (case.keys, "c2")):
        case.redis.hset(keys["parent"], mapping={"name": "p", "data": "{}", "opts": "{}"})
        case.redis.zadd(keys["waiting-children"], {"parent": 1})
        put(case, "wait", child, parentKey=keys["parent"])
        case.redis.sadd(keys["parent:dependencies"], case.keys[child])

    assert drained(case) == ["c1", "c2"]

    assert case.redis.lrange(other["wait"], 0, -1) == ["parent"]
    assert case.keys_of("parent") == set()


def test_a_drain_ends_although_jobs_go_on_coming(case: Case) -> None:
    """It removes as many as there were: a producer may be as fast as the drain."""
    case.waiting(*names(250))
    new = iter(range(1000))

    async def body(broker: Broker) -> int:
        removed = 0
        async for ids in bulk.drain(broker, case.keys, with_delayed=False):
            removed += len(ids)
            case.waiting(*(f"new-{next(new)}" for _ in ids))
        return removed

    assert case.run(body) == 250
    assert len(case.items("wait")) == 250
