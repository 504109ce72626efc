"""Keys of another type, and ids that stand twice in a list: no job is left in no state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from sandboxq.broker.commands.add import NewNode, add, add_flow, new_job
from sandboxq.broker.commands.bulk import clean
from sandboxq.broker.commands.change_job import cancel
from sandboxq.broker.commands.children import families_of
from sandboxq.broker.commands.jobs import jobs_of_keys
from sandboxq.broker.commands.schedulers import (
    Iteration,
    NewScheduler,
    advance,
    schedulers_in,
    upsert,
)
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import QueueError
from sandboxq.model.job import KEEP_ALL, JobOptions, JobState
from sandboxq.model.outcome import Complete
from tests.broker.case import NOW

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from tests.broker.case import Case

DONE = Complete(b"1", KEEP_ALL)
NOTHING = "neither list nor set nor number"


def node(keys: QueueKeys, job_id: str, *, below: str = "") -> NewNode:
    """Return a job of a flow, below another of the case's queue if that is named."""
    extra = {"parent": {"id": below, "queue": keys.qualified_name.removesuffix("-other")}}
    options = JobOptions(job_id=job_id, extra=extra if below else {})
    return NewNode(keys, job_id, job_id in {"p", "x"}, new_job("n", "{}", options))


def test_what_is_too_large_goes_back_though_an_id_was_there_twice(case: Case) -> None:
    """What a claim puts back is taken out of active, and nothing else is."""
    case.job("small")
    case.job("large", data=json.dumps("x" * 1000))
    # Of `gone` there is no job: it is dropped twice over.
    case.redis.rpush(case.keys["wait"], "gone", "large", "small", "gone")

    claim = case.claim_bounded(10, max_bytes=500)

    assert [job.id for job in claim.jobs] == [b"small"]
    assert case.items("active") == ["small"]
    assert "large" in case.items("wait")
    assert case.settle(("small", DONE)) == [0]


def test_jobs_with_ids_of_their_own_need_no_counter(case: Case) -> None:
    """A flow is not torn, and no scheduler ends, for a counter that it only counts up."""
    other = QueueKeys(case.keys.queue + "-other")
    for keys in (case.keys, other):
        case.redis.set(keys["id"], NOTHING)
    nodes = [node(case.keys, "p"), node(other, "c", below="p")]
    assert case.run(lambda broker: add_flow(broker, nodes, now_ms=NOW)) == ["p", "c"]

    opts = {"repeat": {"count": 1}, "repeatJobKey": "s"}
    new = NewScheduler("s", "tick", "{}", "", {"every": 60_000}, None, opts, 0, lifo=False)
    first, _ = case.run(lambda broker: upsert(broker, case.keys, new, now_ms=NOW))
    assert case.items("wait") == [first]
    row = Iteration(first.encode(), b"s", None, None, opts, 0, lifo=False)
    assert case.run(lambda broker: advance(broker, case.keys, [row], now_ms=NOW + 1)) == [True]
    assert len(case.scores("delayed")) == 1


@pytest.mark.parametrize("is_there", [False, True])
def test_no_ring_is_closed_by_a_parent_that_was_there(case: Case, is_there: bool) -> None:  # noqa: FBT001
    """The root of a flow exists, and waits for one of those that are to be added below it."""
    case.job("p", parentKey=case.keys["x"])
    if is_there:
        case.job("x")
    nodes = [
        node(case.keys, name, below=above) for name, above in (("p", ""), ("x", "p"), ("g", "x"))
    ]

    with pytest.raises(QueueError, match="own ancestor and wait for itself"):
        case.run(lambda broker: add_flow(broker, nodes, now_ms=NOW))
    assert not case.hash("g")


def test_a_cancelled_job_that_cannot_pass_through_active_waits_on(case: Case) -> None:
    """It is not taken from where it is before the rest is known to work."""
    case.waiting("1")
    case.redis.set(case.keys["active"], NOTHING)
    with pytest.raises(QueueError, match="WRONGTYPE"):
        case.run(lambda broker: cancel(broker, case.keys, "1", reason="r", grace=0, now_ms=NOW + 5))
    assert case.items("wait") == ["1"]


def test_a_job_that_was_put_off_stays_stored_where_it_has_no_place(case: Case) -> None:
    """The next job that ends with that deduplication lets it go."""
    opts = json.dumps({"priority": 3, "de": {"id": "K", "keepLastIfActive": True}})
    stored = {"name": "k", "data": "{}", "opts": opts, "jid": "mine"}
    case.redis.hset(case.keys["dn:K"], mapping=stored)
    case.active("1", "2", deid="K")
    case.redis.set(case.keys["prioritized"], NOTHING)

    assert case.settle(("1", DONE)) == [0]
    assert not case.hash("mine")
    case.redis.delete(case.keys["prioritized"])
    assert case.settle(("2", DONE)) == [0]
    assert list(case.scores("prioritized")) == ["mine"]


def test_nothing_is_made_of_a_stored_job_that_is_none(case: Case) -> None:
    """A list in its place would become a job without a name."""
    case.active("1", deid="K")
    case.redis.rpush(case.keys["dn:K"], NOTHING)
    assert case.settle(("1", DONE)) == [0]
    assert case.items("wait") == []
    assert not case.redis.exists(case.keys["dn:K"])


def test_a_flow_is_shown_around_what_is_no_job(case: Case) -> None:
    """One key of another type hides neither its neighbours nor its parent."""
    case.job("p")
    case.job("c")
    case.redis.set(case.keys["odd"], NOTHING)
    case.redis.set(case.keys["p:unsuccessful"], NOTHING)
    children = [case.keys["odd"], case.keys["c"]]
    case.redis.sadd(case.keys["p:dependencies"], *children)

    parent, odd = case.run(
        lambda broker: families_of(broker, [case.keys["p"], case.keys["odd"]], limit=10)
    )
    assert parent.fields[b"name"] == b"n"
    assert sorted(parent.children) == sorted(children)
    assert odd == ({}, [])
    jobs = case.run(lambda broker: jobs_of_keys(broker, children, near=case.keys.prefix))
    assert list(jobs) == [case.keys["c"]]


def test_schedulers_are_shown_around_what_is_none(case: Case) -> None:
    """A record of another type, and a field whose name is no text."""
    for name in ("a", "odd", "z"):
        case.redis.zadd(case.keys["repeat"], {name: NOW})
        case.redis.hset(case.keys[f"repeat:{name}"], mapping={"name": name, b"\xff": b"\xff"})
    case.redis.delete(case.keys["repeat:odd"])
    case.redis.set(case.keys["repeat:odd"], NOTHING)

    found = case.run(
        lambda broker: schedulers_in(broker, case.keys, start=0, end=-1, ascending=True)
    )
    assert [each.id for each in found] == ["a", "z"]


def test_ids_that_are_no_text_are_told_as_far_as_they_can_be(case: Case) -> None:
    """What was added, or removed, beside such a job is told too."""
    odd = case.keys.base.encode() + b"\xff"
    case.job("2", finishedOn=NOW)
    case.redis.rename(case.job("1", finishedOn=NOW), odd)
    case.redis.set(case.keys["de:K"], b"\xff")
    job = new_job("n", "{}", JobOptions(extra={"de": {"id": "K"}}))
    results = case.run(lambda b: add(b, case.keys, [new_job("n", "{}"), job], now_ms=NOW))
    assert results == ["1", "\ufffd"]

    async def cleaned(broker: Broker) -> list[str]:
        steps = clean(broker, case.keys, state=JobState.COMPLETED, newest_ms=NOW, limit=None)
        return [job_id async for ids in steps for job_id in ids]

    case.redis.zadd(case.keys["completed"], {b"\xff": NOW, "2": NOW})
    assert sorted(case.run(cleaned)) == ["2", "\ufffd"]
