"""What finishing does to a job's deduplication key (protocol.md 3.5, 3.11.3)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sandboxq.model.job import KEEP_ALL
from sandboxq.model.outcome import (
    Complete,
    Fail,
    Failed,
    RetryNow,
)
from tests.broker.case import NOW

if TYPE_CHECKING:
    from tests.broker.case import Case

THEN = NOW + 5
DONE = Complete(b"1", KEEP_ALL)


def store_next(case: Case, options: dict[str, Any], **fields: str) -> None:
    """Store the job that deduplication put off while `1` runs."""
    opts = {"de": {"id": "K", "keepLastIfActive": True}, **options}
    stored = {"name": "k", "data": '{"n":3}', "opts": json.dumps(opts), "jid": "mine", **fields}
    case.redis.hset(case.keys["dn:K"], mapping=stored)


def test_a_key_without_expiry_dies_with_its_owner(case: Case) -> None:
    """The next add of the same id must be taken."""
    case.active("1", "2", deid="K")
    case.redis.set(case.keys["de:K"], "1")
    case.settle(("2", Fail(Failed(""), KEEP_ALL, None, 1)))
    assert case.redis.get(case.keys["de:K"]) == "1", "it is not the key of 2"
    case.settle(("1", DONE))
    assert not case.redis.exists(case.keys["de:K"])


def test_a_key_with_expiry_outlives_the_job(case: Case) -> None:
    """Throttling goes by time."""
    case.active("1", deid="K")
    case.redis.set(case.keys["de:K"], "1", px=60_000)
    case.settle(("1", DONE))
    assert case.redis.get(case.keys["de:K"]) == "1"


def test_a_retry_keeps_it(case: Case) -> None:
    """The job is not finished."""
    case.active("1", deid="K")
    case.redis.set(case.keys["de:K"], "1")
    case.settle(("1", RetryNow(Failed(""), None, lifo=False)))
    assert case.redis.exists(case.keys["de:K"])


def test_the_stored_next_job_is_queued(case: Case) -> None:
    """With keepLastIfActive, the job that was put off is added before `completed` is told."""
    case.active("1", deid="K")
    case.redis.set(case.keys["de:K"], "1")
    case.redis.set(case.keys["id"], 10)
    store_next(case, {"jobId": "mine"})

    case.settle(("1", DONE))

    assert case.redis.get(case.keys["de:K"]) == "mine"
    assert case.redis.pttl(case.keys["de:K"]) == -1
    assert not case.redis.exists(case.keys["dn:K"])
    assert case.redis.get(case.keys["id"]) == "11"
    assert case.items("wait") == ["mine"]
    fields = case.hash("mine")
    assert json.loads(fields.pop("opts"))["jobId"] == "mine"
    assert fields == {
        "name": "k",
        "data": '{"n":3}',
        "timestamp": str(THEN),
        "delay": "0",
        "priority": "0",
        "deid": "K",
    }
    assert case.events() == [
        {"event": "added", "jobId": "mine", "name": "k"},
        {"event": "waiting", "jobId": "mine"},
        {"event": "completed", "jobId": "1", "returnvalue": "1", "prev": "active"},
    ]
    assert case.scores("marker") == {"0": 0.0}


def test_it_goes_by_its_own_options(case: Case) -> None:
    """Prioritized, delayed or in front."""
    examples: list[tuple[dict[str, Any], str]] = [
        ({"priority": 5}, "prioritized"),
        ({"delay": 100}, "delayed"),
        ({"lifo": True}, "wait"),
    ]
    for number, (options, where) in enumerate(examples):
        job_id = f"r{number}"
        case.active(job_id, deid="K")
        store_next(case, options, jid=f"n{number}")
        case.settle((job_id, DONE))
        if where == "wait":
            assert case.items("wait")[-1] == f"n{number}"
        else:
            assert list(case.scores(where)) == [f"n{number}"]
    assert case.scores("prioritized") == {"n0": 5 * 2**32 + 1}
    assert case.scores("delayed") == {"n1": (THEN + 100) * 4096}


def test_a_stored_child_joins_its_parent(case: Case) -> None:
    """The parent waits for it from now on."""
    case.active("1", deid="K")
    parent = {"pk": case.keys["p"], "pd": '{"id":"p"}', "pdk": case.keys["p:dependencies"]}
    store_next(case, {}, rjk="s", **parent)
    case.settle(("1", DONE))
    assert case.redis.smembers(case.keys["p:dependencies"]) == {case.keys["mine"]}
    fields = case.hash("mine")
    assert (fields["parentKey"], fields["parent"], fields["rjk"]) == (
        case.keys["p"],
        '{"id":"p"}',
        "s",
    )


def test_without_an_id_it_takes_the_counter(case: Case) -> None:
    """As any add."""
    case.active("1", deid="K")
    case.redis.set(case.keys["id"], 41)
    store_next(case, {})
    case.redis.hdel(case.keys["dn:K"], "jid")
    case.settle(("1", DONE))
    assert case.items("wait") == ["42"]


def test_a_stored_next_job_whose_id_was_taken_meanwhile_has_no_second_place(case: Case) -> None:
    """Its id in the queue twice would have it run twice, even at the same time."""
    case.active("1", deid="K")
    case.redis.set(case.keys["de:K"], "1")
    store_next(case, {"jobId": "mine"})
    case.waiting("mine", name="of somebody else")

    case.settle(("1", DONE))

    assert case.items("wait") == ["mine"]
    assert case.hash("mine")["name"] == "of somebody else"
    assert not case.redis.exists(case.keys["de:K"], case.keys["dn:K"])
