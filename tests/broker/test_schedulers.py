"""What the scripts of job schedulers leave in Redis, key by key (protocol.md 3.22)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.commands.schedulers import (
    Iteration,
    NewScheduler,
    advance,
    remove,
    upsert,
)
from sandboxq.errors import SchedulerSlotTaken
from sandboxq.model.outcome import Failed, RetryNow
from tests.broker.case import NOW

if TYPE_CHECKING:
    from tests.broker.case import Case

EVERY = 60_000


def new(next_ms: int | None = None, **record: Any) -> NewScheduler:
    """Return a scheduler "s": at ``next_ms``, or every minute."""
    record = record if next_ms is None else {"pattern": "@daily", **record}
    if next_ms is None:
        record.setdefault("every", EVERY)
    opts = {"repeat": {"count": 1}, "repeatJobKey": "s"}
    return NewScheduler("s", "tick", '{"n":1}', "", record, next_ms, opts, 0, lifo=False)


def make(case: Case, scheduler: NewScheduler, now_ms: int = NOW) -> tuple[str, int]:
    """Upsert."""
    made: tuple[str, int] = case.run(
        lambda broker: upsert(broker, case.keys, scheduler, now_ms=now_ms)
    )
    return made


def follow(case: Case, claimed_id: str, next_ms: int | None = None, now_ms: int = NOW) -> bool:
    """Advance scheduler "s" after one claimed job."""
    opts = {"repeat": {"count": 2}, "repeatJobKey": "s"}
    row = Iteration(claimed_id.encode(), b"s", next_ms, None, opts, 0, lifo=False)
    (made,) = case.run(lambda broker: advance(broker, case.keys, [row], now_ms=now_ms))
    return bool(made)


def iterations(case: Case) -> list[str]:
    """Return the times of all jobs of "s", after NOW, in ms."""
    prefix = case.keys["repeat:s:"]
    found = (name.removeprefix(prefix) for name in case.redis.scan_iter(f"{prefix}*"))
    return sorted(str(int(name) - NOW) for name in found if name.isdigit())


def test_the_first_job_and_the_record(case: Case) -> None:
    """Both are read by Node's workers and dashboards."""
    job_id, delay = make(case, new(offset=15_000, limit=3))

    due = NOW // EVERY * EVERY + 15_000
    due += EVERY if due <= NOW else 0
    assert (job_id, delay) == (f"repeat:s:{due}", due - NOW)
    assert case.scores("repeat") == {"s": due}
    when = {"every": "60000", "offset": "15000", "limit": "3"}
    assert case.hash("repeat:s") == {"name": "tick", "ic": "1", "data": '{"n":1}', **when}
    stored = case.hash(job_id)
    assert (stored["name"], stored["rjk"], stored["delay"]) == ("tick", "s", str(delay))
    opts = {"repeat": {"count": 1}, "repeatJobKey": "s"}
    assert json.loads(stored["opts"]) == {**opts, "jobId": job_id, "delay": delay}
    assert [event["event"] for event in case.events()] == ["added", "delayed"]
    assert case.scores("marker") == {"1": due}


def test_one_job_has_one_successor(case: Case) -> None:
    """Claimed again after a failure or a stall, it must not start a second chain."""
    first, _ = make(case, new())
    assert [job.id.decode() for job in case.claim().jobs] == [first]
    assert follow(case, first)
    follow(case, first)
    case.settle((first, RetryNow(Failed("boom"), None, lifo=False)))
    assert [job.id.decode() for job in case.claim().jobs] == [first]
    follow(case, first)
    case.redis.delete(case.keys[f"{first}:lock"])
    case.recover()
    case.recover()
    assert [job.id.decode() for job in case.claim().jobs] == [first]
    follow(case, first)

    assert iterations(case) == ["0", "60000"]
    assert case.hash("repeat:s")["ic"] == "2"
    assert case.redis.get(case.keys["id"]) == "2"


def test_a_claim_without_its_successor_is_made_good_by_the_next(case: Case) -> None:
    """A worker may die between the two: the job stalls, and who claims it then goes on."""
    first, _ = make(case, new())
    case.claim()
    case.redis.delete(case.keys[f"{first}:lock"])
    case.recover()
    case.recover()

    assert [job.scheduler_id for job in case.claim(now_ms=NOW + 5 * EVERY + 7).jobs] == [b"s"]
    assert follow(case, first, now_ms=NOW + 5 * EVERY + 7)

    # What was missed stays missed; the offset that the first job had stays too.
    assert iterations(case) == ["0", str(6 * EVERY)]


def test_a_removed_scheduler_makes_no_more(case: Case) -> None:
    """Its job may be running while somebody removes it."""
    first, _ = make(case, new())
    case.claim()

    assert case.run(lambda broker: remove(broker, case.keys, "s"))
    assert not case.run(lambda broker: remove(broker, case.keys, "s"))
    follow(case, first)

    assert iterations(case) == ["0"]
    assert case.scores("repeat") == {}
    assert case.hash("repeat:s") == {}


def test_removal_takes_the_delayed_job(case: Case) -> None:
    """It would run once more, long after."""
    job_id, _ = make(case, new(NOW + 5000))

    assert case.run(lambda broker: remove(broker, case.keys, "s"))

    assert iterations(case) == []
    assert case.scores("delayed") == {}
    assert case.events()[-1] == {"event": "removed", "jobId": job_id, "prev": "delayed"}


@pytest.mark.parametrize("place", ["delayed", "wait", "paused", "prioritized", "wait while paused"])
def test_a_change_replaces_the_job_wherever_it_waits(case: Case, place: str) -> None:
    """Node's v6 overlooks it in a paused queue, and both jobs run."""
    if "paused" in place:
        case.redis.hset(case.keys["meta"], "paused", 1)
    if place == "paused":
        case.redis.rpush(case.keys["paused"], "other")
    soon = NOW + 5000 if place == "delayed" else NOW
    first = new(soon)._replace(priority=3 if place == "prioritized" else 0)

    make(case, first)
    make(case, new(NOW + 9000))

    assert iterations(case) == ["9000"]
    lists = [*case.items("wait"), *case.items("paused"), *case.scores("prioritized")]
    assert [each for each in lists if each.startswith("repeat:")] == []
    assert list(case.scores("delayed")) == [f"repeat:s:{NOW + 9000}"]


def test_a_time_that_another_job_has(case: Case) -> None:
    """A finished job of an earlier scheduler is neither overwritten nor the end of this one."""
    case.job(f"repeat:s:{NOW + 5000}")
    case.redis.zadd(case.keys["completed"], {f"repeat:s:{NOW + 5000}": NOW})

    with pytest.raises(SchedulerSlotTaken):
        make(case, new(NOW + 5000))
    assert case.scores("repeat") == {}

    first, _ = make(case, new(NOW))
    case.claim()
    assert not follow(case, first, NOW + 5000)
    assert case.events()[-1] == {"event": "duplicated", "jobId": f"repeat:s:{NOW + 5000}"}
    assert follow(case, first, NOW + 6000)
    assert iterations(case) == ["0", "5000", "6000"]


def test_every_steps_over_times_that_are_taken(case: Case) -> None:
    """Up to 32 of them; Node's worker gives up at the first, and the scheduler with it."""
    for step in (1, 2):
        case.job(f"repeat:s:{NOW + step * EVERY}")
    first, _ = make(case, new())
    case.claim()
    assert follow(case, first)
    assert iterations(case) == ["0", "120000", "180000", "60000"]

    for step in range(60):
        case.job(f"repeat:s:{NOW + step}")
    with pytest.raises(SchedulerSlotTaken):
        make(case, new(every=1))
    assert case.hash("repeat:s")["every"] == "60000"


def test_schedules_of_v5_keep_their_data(case: Case) -> None:
    """Their records have no data; Node's v6 runs them with none from the second job on."""
    first = f"repeat:s:{NOW}"
    case.waiting(first, rjk="s", data='{"a":1}', name="old")
    case.redis.zadd(case.keys["repeat"], {"s": NOW})
    case.redis.hset(case.keys["repeat:s"], mapping={"name": "old", "pattern": "@daily"})
    case.claim()

    follow(case, first, NOW + 1000)
    follow(case, f"repeat:s:{NOW + 1000}", NOW + 2000)

    assert case.hash(f"repeat:s:{NOW + 2000}")["data"] == '{"a":1}'
    assert case.hash(f"repeat:s:{NOW + 2000}")["name"] == "old"
