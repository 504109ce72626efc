"""Removing one job and whole queues (protocol.md 3.21)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.broker.commands.change_job import obliterate, remove
from sandboxq.broker.commands.settings import pause
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import (
    JobBelongsToScheduler,
    JobLocked,
    QueueHasActiveJobs,
    QueueNotPaused,
)
from tests.broker.case import NOW, TOKEN

if TYPE_CHECKING:
    from tests.broker.case import Case


def removed(case: Case, job_id: str, *, with_children: bool = True) -> bool:
    """Remove a job of the case's queue."""
    return bool(
        case.run(lambda broker: remove(broker, case.keys, job_id, with_children=with_children))
    )


def obliterated(case: Case, *, force: bool = False) -> None:
    """Obliterate the case's queue."""
    case.run(lambda broker: obliterate(broker, case.keys, force=force))


def family(case: Case) -> QueueKeys:
    """Make a parent ``p`` that waits for ``c1`` and ``c2`` of another queue; return its keys."""
    other = QueueKeys(f"{case.keys.queue}-other")
    case.job("p")
    case.redis.zadd(case.keys["waiting-children"], {"p": 1})
    for child in ("c1", "c2"):
        fields = {"name": "c", "data": "{}", "opts": "{}", "parentKey": case.keys["p"]}
        case.redis.hset(other[child], mapping=fields)
        case.redis.lpush(other["wait"], child)
        case.redis.sadd(case.keys["p:dependencies"], other[child])
    return other


@pytest.mark.parametrize(
    "state",
    [
        "wait",
        "paused",
        "active",
        "prioritized",
        "delayed",
        "completed",
        "failed",
        "waiting-children",
    ],
)
def test_removes_a_job_from_any_state(case: Case, state: str) -> None:
    """Nothing of it may stay behind, and the event names the state in its own words."""
    case.job("1")
    case.redis.rpush(case.keys["1:logs"], "line")
    if state in {"wait", "paused", "active"}:
        case.redis.lpush(case.keys[state], "0", "1", "2")
    else:
        case.redis.zadd(case.keys[state], {"0": 0, "1": 1, "2": 2})

    assert removed(case, "1")

    assert case.keys_of("1") == set()
    held = case.items(state) if state in {"wait", "paused", "active"} else list(case.scores(state))
    assert sorted(held) == ["0", "2"]
    assert case.events() == [{"event": "removed", "jobId": "1", "prev": state}]


def test_an_unknown_job_is_false(case: Case) -> None:
    """Removing twice is no error."""
    assert not removed(case, "nobody")
    assert case.events() == []


def test_removing_an_active_job_lets_the_next_one_in(case: Case) -> None:
    """At a concurrency limit it makes room: without a marker all workers would sleep on."""
    case.active("dead")
    case.redis.hset(case.keys["meta"], "concurrency", 1)
    case.waiting("next")
    case.redis.delete(case.keys["dead:lock"])

    assert removed(case, "dead")

    assert case.scores("marker") == {"0": 0.0}


def test_a_locked_job_stays(case: Case) -> None:
    """Its worker would run on and then fail to settle."""
    case.active("1")

    with pytest.raises(JobLocked):
        removed(case, "1")

    assert (case.items("active"), case.redis.get(case.keys["1:lock"])) == (["1"], TOKEN)


def test_the_next_iteration_of_a_scheduler_stays(case: Case) -> None:
    """Without it the scheduler would never run again (-8)."""
    case.job("repeat:s:5000", rjk="s")
    case.redis.zadd(case.keys["repeat"], {"s": 5000})

    with pytest.raises(JobBelongsToScheduler):
        removed(case, "repeat:s:5000")


def test_children_go_with_their_parent(case: Case) -> None:
    """Half a flow is of no use; a pending child that is locked keeps all of it."""
    other = family(case)
    case.redis.set(other["c1:lock"], "x")
    with pytest.raises(JobLocked):
        removed(case, "p")
    case.redis.delete(other["c1:lock"])

    assert removed(case, "p")

    assert case.redis.keys(other["c*"]) == []
    assert case.redis.llen(other["wait"]) == 0
    assert case.scores("waiting-children") == {}


def test_a_parent_alone(case: Case) -> None:
    """Without its children they stay where they are."""
    other = family(case)

    assert removed(case, "p", with_children=False)

    assert case.redis.lrange(other["wait"], 0, -1) == ["c2", "c1"]


def test_the_last_child_frees_its_parent(case: Case) -> None:
    """A parent whose children were removed would wait for ever."""
    other = family(case)

    assert case.run(lambda broker: remove(broker, other, "c1"))
    still_waiting = case.scores("waiting-children")
    assert case.run(lambda broker: remove(broker, other, "c2"))

    assert list(still_waiting) == ["p"]
    assert (case.items("wait"), case.scores("marker")) == (["p"], {"0": 0.0})
    assert case.events() == [{"event": "waiting", "jobId": "p", "prev": "waiting-children"}]


def test_a_removed_job_no_longer_deduplicates(case: Case) -> None:
    """A key without its job would block all further adds."""
    case.waiting("1", deid="D")
    case.redis.set(case.keys["de:D"], "1")
    case.redis.set(case.keys["de:other"], "1")

    removed(case, "1")

    assert case.redis.keys(case.keys["de:*"]) == [case.keys["de:other"]]


def test_obliterate_refuses_as_node_does(case: Case) -> None:
    """A queue in use must not vanish by accident."""
    case.active("a")
    case.waiting("w")
    with pytest.raises(QueueNotPaused):
        obliterated(case)
    case.run(lambda broker: pause(broker, case.keys))
    with pytest.raises(QueueHasActiveJobs):
        obliterated(case)

    assert (case.items("active"), case.items("wait")) == (["a"], ["w"])


def test_obliterate_leaves_nothing(case: Case) -> None:
    """More jobs than one call may take, in every state; only what waits for children stays."""
    case.active("a")
    case.waiting(*(f"w{i}" for i in range(300)), deid="D")
    case.redis.set(case.keys["de:D"], "w7")
    for state in ("prioritized", "delayed", "completed", "failed"):
        case.redis.zadd(case.keys[state], {f"{state}{i}": i for i in range(300)})
        case.job(f"{state}5")
    case.redis.zadd(case.keys["repeat"], {"s": 1})
    case.redis.hset(case.keys["repeat:s"], "name", "s")
    case.run(lambda broker: pause(broker, case.keys))

    obliterated(case, force=True)

    assert case.redis.keys(case.keys["*"]) == []


def test_obliterate_and_parents(case: Case) -> None:
    """A parent elsewhere is woken; one in the same queue goes; one with other children stays."""
    other = family(case)
    case.redis.incr(other["id"])
    case.redis.srem(case.keys["p:dependencies"], other["c2"])
    case.redis.hset(other["meta"], "paused", 1)
    inner = {"name": "p", "data": "{}", "opts": "{}"}
    for name, children in (("q1", ["k1"]), ("q2", ["k2", "elsewhere"])):
        case.redis.hset(other[name], mapping=inner)
        case.redis.zadd(other["waiting-children"], {name: 1})
        case.redis.sadd(other[f"{name}:dependencies"], *(other[child] for child in children))
        case.redis.hset(other[children[0]], mapping={**inner, "parentKey": other[name]})
        case.redis.lpush(other["wait"], children[0])

    case.run(lambda broker: obliterate(broker, other, force=False))

    assert case.items("wait") == ["p"]
    left = {key.removeprefix(other.base) for key in case.redis.keys(other["*"])}
    # The counter stays, so that no new job gets an id that q2 or its kind has.
    assert left == {"q2", "q2:dependencies", "waiting-children", "id"}


def test_thousands_of_children_go_and_nothing_else(case: Case) -> None:
    """The lists are looked through once for all: what else waits keeps its place."""
    other = QueueKeys(f"{case.keys.queue}-children")
    case.waiting("before")
    parent = case.job("parent")
    case.redis.zadd(case.keys["waiting-children"], {"parent": NOW})
    for number in range(600):
        keys = other if number % 2 else case.keys
        child = f"c{number}"
        case.redis.hset(keys[child], mapping={"name": "c", "parentKey": parent, "timestamp": NOW})
        case.redis.lpush(keys["wait"], child)
        case.redis.sadd(f"{parent}:dependencies", keys[child])
    case.waiting("after")

    assert case.run(lambda broker: remove(broker, case.keys, "parent"))

    assert case.items("wait") == ["after", "before"]
    assert not case.redis.exists(other["wait"], other["c1"], case.keys["c0"], parent)
    assert not case.redis.zcard(case.keys["waiting-children"])
