"""Jobs that no state holds (protocol.md 3.21, gotcha G7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.broker.commands.bulk import remove_orphans
from tests.broker.case import NOW

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from tests.broker.case import Case


def removed(case: Case, *, limit: int | None = None) -> list[str]:
    """Remove orphans; return their ids, sorted."""

    async def body(broker: Broker) -> list[str]:
        walk = remove_orphans(broker, case.keys, limit=limit)
        return sorted([job_id async for ids in walk for job_id in ids])

    found: list[str] = case.run(body)
    return found


STATES = (
    *("wait", "paused", "active", "prioritized", "delayed", "completed", "failed"),
    "waiting-children",
)


@pytest.mark.parametrize("state", STATES)
def test_jobs_of_a_state_stay(case: Case, state: str) -> None:
    """Whatever state; and an orphan goes with all that belongs to it."""
    for job_id in ("held", "orphan", "repeat:s:5000"):
        case.job(job_id)
        case.redis.rpush(case.keys[f"{job_id}:logs"], "line")
    if state in {"wait", "paused", "active"}:
        case.redis.lpush(case.keys[state], "held")
    else:
        case.redis.zadd(case.keys[state], {"held": 1})

    assert removed(case) == ["orphan", "repeat:s:5000"]

    assert case.keys_of("held") == {"held", "held:logs"}
    assert case.keys_of("orphan") == set()


def test_a_job_that_somebody_holds_stays(case: Case) -> None:
    """A lock says that it is being run, wherever it is."""
    case.job("1")
    case.redis.set(case.keys["1:lock"], "x")

    assert removed(case) == []


def test_what_is_no_job_stays(case: Case) -> None:
    """Node deletes all of these but the first: its own metrics among them."""
    hashes = {
        "repeat:s": {"name": "tick", "every": 1000, "ic": 1, "data": "{}", "opts": "{}"},
        "metrics:failed": {"count": 1, "prevTS": NOW, "prevCount": 0},
        "dn:lock": {"name": "n", "data": "{}", "opts": "{}", "jid": "7"},
        "own": {"a": 1},
        "own:failed": {"a": 1},
        "1:processed": {"bull:q:2": "1"},
    }
    for name, fields in hashes.items():
        case.redis.hset(case.keys[name], mapping=fields)
    case.redis.set(case.keys["own:lock"], 1)
    case.redis.rpush(case.keys["own:logs"], 1)
    before = set(case.redis.keys(case.keys["*"]))

    assert removed(case) == []

    assert set(case.redis.keys(case.keys["*"])) == before


def test_other_queues_are_left_alone(case: Case) -> None:
    """A queue's name may have what means something in a pattern."""
    other = case.keys.queue[:-1] + "?"
    case.job("mine")
    key = f"bull:{other}:theirs"
    fields = {"name": "n", "data": "{}", "opts": "{}", "timestamp": 1}
    case.redis.hset(key, mapping=fields)

    from sandboxq.broker.keys import QueueKeys

    async def body(broker: Broker) -> list[str]:
        walk = remove_orphans(broker, QueueKeys(other), limit=None)
        return [job_id async for ids in walk for job_id in ids]

    assert case.run(body) == ["theirs"]
    assert case.keys_of("mine") == {"mine"}


def test_a_parent_does_not_wait_for_an_orphan(case: Case) -> None:
    """It would wait for ever; and the orphan's deduplication id is free again."""
    case.job("parent")
    case.redis.zadd(case.keys["waiting-children"], {"parent": 1})
    case.job("child", parentKey=case.keys["parent"], deid="D")
    case.redis.sadd(case.keys["parent:dependencies"], case.keys["child"])
    case.redis.set(case.keys["de:D"], "child")

    assert removed(case) == ["child"]

    assert (case.items("wait"), case.redis.exists(case.keys["de:D"])) == (["parent"], 0)
    assert case.events() == [{"event": "waiting", "jobId": "parent", "prev": "waiting-children"}]


def test_no_more_than_asked_for(case: Case) -> None:
    """A first careful step."""
    for number in range(120):
        case.job(f"o{number}")

    assert len(removed(case, limit=7)) == 7
    assert len(removed(case)) == 113
