"""Adding, against the key-level facts of protocol.md 3.2 to 3.5 and the dumps of 12."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.commands.add import add, new_job, relation_members
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import ParentCannotBeReplaced, ParentNotFound
from sandboxq.model.job import Deduplication, JobOptions, Parent
from tests.broker.case import NOW

if TYPE_CHECKING:
    from sandboxq.broker.commands.add import NewJob
    from sandboxq.errors import QueueError
    from tests.broker.case import Case

P = 2**32
HOUR = 3600.0


def job(name: str = "n", data: str = "{}", **options: Any) -> NewJob:
    """Return a job to add."""
    deduplication, parent = options.pop("deduplication", None), options.pop("parent", None)
    if deduplication or parent:
        options["extra"] = relation_members(deduplication, parent, prefix="bull")
    return new_job(name, data, JobOptions(**options)) if options else new_job(name, data)


def added(case: Case, *jobs: NewJob, keys: QueueKeys | None = None) -> list[str | QueueError]:
    """Add jobs to the case's queue, or another one."""
    results: list[str | QueueError] = case.run(
        lambda broker: add(broker, keys or case.keys, jobs, now_ms=NOW)
    )
    return results


def test_a_plain_job_is_what_node_would_have_written(case: Case) -> None:
    """Six fields, two events, one marker: nothing in a Node fleet sees a difference."""
    ids = added(case, job("std", '{"a":1}', attempts=3))

    assert ids == ["1"]
    assert case.hash("1") == {
        "name": "std",
        "data": '{"a":1}',
        "opts": '{"attempts":3}',
        "timestamp": str(NOW),
        "delay": "0",
        "priority": "0",
    }
    assert (case.items("wait"), case.redis.get(case.keys["id"])) == (["1"], "1")
    assert [list(event.items()) for event in case.events()] == [
        [("event", "added"), ("jobId", "1"), ("name", "std")],
        [("event", "waiting"), ("jobId", "1")],
    ]
    assert case.scores("marker") == {"0": 0.0}


def test_a_batch_keeps_its_order_over_all_kinds(case: Case) -> None:
    """Plain jobs are added in runs; what comes between them must not change places."""
    ids = added(
        case, job(), job(), job(lifo=True), job(priority=2), job(), job(job_id="own"), job()
    )

    assert ids == ["1", "2", "3", "4", "5", "own", "7"]
    assert case.items("wait") == ["7", "own", "5", "2", "1", "3"]
    assert case.scores("prioritized") == {"4": 2 * P + 1}
    assert case.redis.get(case.keys["id"]) == "7"
    assert [event["jobId"] for event in case.events()[::2]] == ids


def test_more_than_one_call_and_one_trip(case: Case) -> None:
    """Thousands of jobs are cut into calls of a hundred; none may be lost or swapped at a cut."""
    ids = added(case, *[job(str(i)) for i in range(2345)])

    assert ids == [str(i) for i in range(1, 2346)]
    assert case.items("wait") == ids[::-1]
    assert case.hash("2345")["name"] == "2344"


def test_meta_is_completed_and_never_overwritten(case: Case) -> None:
    """Node owns both fields; its version tells which pause layout is in use (9.2)."""
    case.redis.delete(case.keys["meta"])
    added(case, job())
    fresh = case.redis.hgetall(case.keys["meta"])
    case.redis.hset(case.keys["meta"], mapping={"version": "bullmq:5.81.5", "opts.maxLenEvents": 7})
    added(case, job())

    assert fresh == {"opts.maxLenEvents": "10000", "version": "bullmq:6.7.0"}
    assert case.redis.hgetall(case.keys["meta"]) == {
        "opts.maxLenEvents": "7",
        "version": "bullmq:5.81.5",
    }


def test_events_are_trimmed_as_the_queue_says(case: Case) -> None:
    """An untrimmed stream fills Redis; a producer alone must keep it short."""
    case.redis.hset(case.keys["meta"], "opts.maxLenEvents", 100)
    added(case, *[job() for _ in range(1000)])

    assert case.redis.xlen(case.keys["events"]) < 500


def test_delayed_jobs(case: Case) -> None:
    """Score, marker and event say when it is due; equal times keep their order (1.2)."""
    ids = added(
        case,
        job(delay=100.0, timestamp_ms=1_700_000_000_000),
        job(delay=100.0, timestamp_ms=1_700_000_000_000, priority=5),
        job(delay=0.25),
    )

    assert ids == ["1", "2", "3"]
    assert case.scores("delayed") == {
        "1": 1_700_000_100_000 * 4096,
        "2": 1_700_000_100_000 * 4096 + 1,
        "3": (NOW + 250) * 4096,
    }
    assert (case.hash("1")["delay"], case.hash("1")["timestamp"]) == ("100000", "1700000000000")
    assert case.events()[1] == {"event": "delayed", "jobId": "1", "delay": "1700000100000"}
    assert case.scores("marker") == {"1": 1_700_000_100_000}
    assert case.items("wait") == []


def test_priorities(case: Case) -> None:
    """Lower goes first, equals in order; 21 bits of priority fit above the counter."""
    added(case, job(priority=10), job(priority=10), job(priority=2_097_151))

    scores = {"1": 10 * P + 1, "2": 10 * P + 2, "3": 2_097_151 * P + 3}
    assert case.scores("prioritized") == scores
    assert case.redis.get(case.keys["pc"]) == "3"
    assert case.hash("1")["priority"] == "10"
    assert case.events()[1] == {"event": "waiting", "jobId": "1"}


def test_no_marker_when_nobody_may_claim(case: Case) -> None:
    """A paused or full queue would wake its workers for nothing (1.4)."""
    case.redis.hset(case.keys["meta"], "paused", 1)
    added(case, job(), job(priority=1))
    paused = case.scores("marker")
    case.redis.hdel(case.keys["meta"], "paused")
    case.redis.hset(case.keys["meta"], "concurrency", 1)
    case.redis.lpush(case.keys["active"], "x")
    added(case, job())

    assert (paused, case.scores("marker")) == ({}, {})
    assert case.items("wait") == ["3", "1"]


@pytest.mark.parametrize("sign", ["version", "paused list"])
def test_a_queue_paused_by_v5_gets_its_jobs_where_v5_looks(case: Case, sign: str) -> None:
    """A v5 client that resumes throws away the list ``wait`` (9.2)."""
    case.redis.hset(case.keys["meta"], "paused", 1)
    if sign == "version":
        case.redis.hset(case.keys["meta"], "version", "bullmq:5.56.0")
    else:
        case.redis.lpush(case.keys["paused"], "old")

    added(case, job(), job(lifo=True))

    assert [i for i in case.items("paused") if i != "old"] == ["1", "2"]
    assert case.items("wait") == []


def test_a_taken_id_adds_nothing(case: Case) -> None:
    """Producers make adding idempotent by ids; the counter moves all the same, as in Node."""
    added(case, job("first", '{"n":1}', job_id="abc"))
    before = case.hash("abc")

    ids = added(case, job("second", '{"n":2}', job_id="abc"))

    assert (ids, case.hash("abc"), case.items("wait")) == (["abc"], before, ["abc"])
    assert case.events()[-1] == {"event": "duplicated", "jobId": "abc"}
    assert case.redis.get(case.keys["id"]) == "2"


# ── parents ─────────────────────────────────────────────────────────────────


def test_a_child_is_tied_to_its_parent(case: Case) -> None:
    """The parent's worker and bull-board find children by these two keys and two fields."""
    case.job("par")
    other = QueueKeys(f"{case.keys.queue}-other")

    (child,) = added(case, job(parent=Parent("par", case.keys.queue, "fail")), keys=other)

    fields = case.redis.hgetall(other[str(child)])
    parent_key = case.keys["par"]
    assert fields["parentKey"] == parent_key
    own_queue = f"bull:{case.keys.queue}"
    assert json.loads(fields["parent"]) == {"id": "par", "queueKey": own_queue, "fpof": True}
    wanted = {"attempts": 0, "parent": {"id": "par", "queue": own_queue}, "fpof": True}
    assert json.loads(fields["opts"]) == wanted
    assert case.redis.smembers(f"{parent_key}:dependencies") == {other[str(child)]}


def test_a_missing_parent_refuses_only_its_child(case: Case) -> None:
    """-5 changes nothing, not even the counter; the jobs around it are added."""
    first, refused, last = added(case, job(), job(parent=Parent("gone", case.keys.queue)), job())

    assert isinstance(refused, ParentNotFound)
    assert (first, last, case.items("wait")) == ("1", "2", ["2", "1"])


def test_a_taken_id_can_get_a_parent(case: Case) -> None:
    """A flow may be put around a job that exists (3.4)."""
    case.job("par", priority=3)
    case.redis.zadd(case.keys["waiting-children"], {"par": 1})
    case.waiting("a")
    case.job("b", returnvalue='"v"')
    case.redis.zadd(case.keys["completed"], {"b": 1})
    parent = Parent("par", case.keys.queue)

    added(case, job(job_id="a", parent=parent))
    pending = case.redis.smembers(case.keys["par:dependencies"])
    case.redis.delete(case.keys["par:dependencies"])
    added(case, job(job_id="b", parent=parent))

    assert pending == {case.keys["a"]}
    assert case.hash("a")["parentKey"] == case.keys["par"]
    assert case.redis.hgetall(case.keys["par:processed"]) == {case.keys["b"]: '"v"'}
    assert case.scores("waiting-children") == {}
    assert case.scores("prioritized") == {"par": 3 * P + 1}


def test_a_child_keeps_its_living_parent(case: Case) -> None:
    """-7: a job has one parent; one whose parent is gone may get a new one."""
    case.job("old")
    case.job("new")
    case.waiting("a", parentKey=case.keys["old"])

    (refused,) = added(case, job(job_id="a", parent=Parent("new", case.keys.queue)))
    case.redis.delete(case.keys["old"])
    (moved,) = added(case, job(job_id="a", parent=Parent("new", case.keys.queue)))

    assert isinstance(refused, ParentCannotBeReplaced)
    assert (moved, case.hash("a")["parentKey"]) == ("a", case.keys["new"])


# ── deduplication ───────────────────────────────────────────────────────────


def test_simple_deduplication_lasts_until_the_job_ends(case: Case) -> None:
    """The second add returns the first job's id, and says so in Node's swapped words (3.5)."""
    once = Deduplication("D")

    ids = added(case, job(deduplication=once), job(deduplication=once))

    assert ids == ["1", "1"]
    assert (case.hash("1")["deid"], case.items("wait")) == ("D", ["1"])
    assert case.redis.get(case.keys["de:D"]) == "1"
    assert case.redis.pttl(case.keys["de:D"]) == -1
    assert list(case.events()[-1].items()) == [
        ("event", "deduplicated"),
        ("jobId", "1"),
        ("deduplicationId", "D"),
        ("deduplicatedJobId", "2"),
    ]


def test_throttling_does_not_start_again(case: Case) -> None:
    """With extend the time starts anew at each add, without it does not."""
    for name, extend in (("throttle", False), ("extend", True)):
        rule = Deduplication(name, ttl=HOUR, extend=extend)
        added(case, job(deduplication=rule))
        case.redis.pexpire(case.keys[f"de:{name}"], 60_000)
        added(case, job(deduplication=rule))

    assert case.redis.pttl(case.keys["de:throttle"]) <= 60_000
    assert case.redis.pttl(case.keys["de:extend"]) > 60_000


def test_replacing_a_delayed_job(case: Case) -> None:
    """Debouncing: the last of a burst runs, after its own delay, within the first one's ttl."""
    rule = Deduplication("D", ttl=HOUR, replace=True)
    added(case, job(data="1", delay=5.0, deduplication=rule))
    case.redis.pexpire(case.keys["de:D"], 60_000)

    ids = added(case, job(data="2", delay=9.0, deduplication=rule))

    assert (ids, case.hash("1"), case.hash("2")["data"]) == (["2"], {}, "2")
    assert case.scores("delayed") == {"2": (NOW + 9000) * 4096}
    assert case.redis.get(case.keys["de:D"]) == "2"
    assert 0 < case.redis.pttl(case.keys["de:D"]) <= 60_000
    assert [event["event"] for event in case.events()[2:]] == [
        *("removed", "deduplicated", "added", "delayed")
    ]
    assert case.events()[3]["jobId"] == "2"


def test_the_parent_of_a_replaced_job_waits_for_it_no_longer(case: Case) -> None:
    """A flow may have taken the job in by its id; in Node its parent waits for ever."""
    rule = Deduplication("D", replace=True)
    added(case, job(job_id="child", delay=5.0, deduplication=rule))
    parent = case.job("parent")
    case.redis.zadd(case.keys["waiting-children"], {"parent": NOW})
    added(case, job(job_id="child", parent=Parent("parent", case.keys.queue)))
    assert case.redis.smembers(f"{parent}:dependencies") == {case.keys["child"]}

    added(case, job(delay=5.0, deduplication=rule))

    assert not case.redis.exists(f"{parent}:dependencies")
    assert case.items("wait") == ["parent"]


def test_a_job_that_waits_is_not_replaced(case: Case) -> None:
    """Only a delayed job can be swapped; the add is dropped without an event, as in Node."""
    rule = Deduplication("D", replace=True)

    ids = added(case, job(deduplication=rule), job(deduplication=rule))

    assert (ids, len(case.events())) == (["1", "1"], 2)


def test_the_last_add_is_kept_while_the_job_is_active(case: Case) -> None:
    """keep_last_if_active stores the newest payload, for the finishing worker to queue (2.5)."""
    rule = Deduplication("D", ttl=HOUR, keep_last_if_active=True)
    added(case, job(deduplication=rule))
    case.claim()

    ids = added(
        case,
        job(data="2", deduplication=rule),
        job("k", "3", job_id="mine", priority=5, deduplication=rule),
    )

    stored = case.redis.hgetall(case.keys["dn:D"])
    assert ids == ["1", "1"]
    assert (stored["name"], stored["data"], stored["jid"]) == ("k", "3", "mine")
    assert json.loads(stored["opts"])["priority"] == 5
    assert case.redis.pttl(case.keys["de:D"]) == -1
    assert case.events()[-1]["deduplicatedJobId"] == "mine"


def test_a_key_whose_job_is_gone_blocks_nobody(case: Case) -> None:
    """Versions before 6.3.9 leave such keys behind, and then never add again."""
    case.redis.set(case.keys["de:D"], "gone")

    assert added(case, job(deduplication=Deduplication("D"))) == ["1"]
    assert case.redis.get(case.keys["de:D"]) == "1"
