"""Changing one job: promote, delay, priority, retry, contents (protocol.md 3.17, 3.20)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.commands import change_job
from sandboxq.broker.commands.change_job import Resets
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import JobNotFound, JobNotInState
from sandboxq.model.job import JobState
from tests.broker.case import NOW, TOKEN

if TYPE_CHECKING:
    from tests.broker.case import Case

HOUR_MS = 3_600_000
FRONT = 2**32


def delayed(case: Case, job_id: str, *, due_ms: int = NOW + HOUR_MS, **fields: Any) -> None:
    """Write a delayed job."""
    case.job(job_id, delay=HOUR_MS, **fields)
    case.redis.zadd(case.keys["delayed"], {job_id: due_ms * 4096})


def finished(case: Case, state: str, job_id: str, **fields: Any) -> None:
    """Write a finished job that was tried three times."""
    ending = "failedReason" if state == "failed" else "returnvalue"
    times = {"processedOn": NOW - 5, "finishedOn": NOW, "atm": 3, "ats": 4, ending: "1"}
    case.job(job_id, **{**times, **fields})
    case.redis.zadd(case.keys[state], {job_id: NOW})


def promoted(case: Case, job_id: str) -> None:
    """Promote a job."""
    case.run(lambda broker: change_job.promote(broker, case.keys, job_id))


def retried(case: Case, job_id: str, state: str = "failed", resets: Resets = Resets()) -> None:  # noqa: B008 - a tuple
    """Retry a job."""
    case.run(
        lambda broker: change_job.retry(
            broker, case.keys, job_id, state=JobState(state), resets=resets
        )
    )


def prioritized(case: Case, job_id: str, priority: int, *, is_first: bool = False) -> None:
    """Change a job's priority."""
    case.run(
        lambda broker: change_job.change_priority(
            broker, case.keys, job_id, priority=priority, is_first=is_first
        )
    )


def updated(case: Case, job_id: str, kind: str, payload: str, *, keep_logs: int = 0) -> None:
    """Write progress, data or a log line."""
    case.run(
        lambda broker: change_job.update(
            broker, case.keys, job_id, kind, payload, keep_logs=keep_logs
        )
    )


def put_off(case: Case, job_id: str, delay_ms: int) -> None:
    """Change a job's delay."""
    case.run(
        lambda broker: change_job.change_delay(
            broker, case.keys, job_id, delay_ms=delay_ms, now_ms=NOW
        )
    )


# ── promote ─────────────────────────────────────────────────────────────────


def test_a_promoted_job_waits_behind_the_others(case: Case) -> None:
    """It is queued like a new one, and no longer says that it is delayed."""
    case.waiting("a")
    delayed(case, "d")

    promoted(case, "d")

    assert (case.items("wait"), case.scores("delayed")) == (["d", "a"], {})
    assert (case.hash("d")["delay"], case.scores("marker")) == ("0", {"0": 0.0})
    assert case.events() == [{"event": "waiting", "jobId": "d", "prev": "delayed"}]


def test_a_promoted_job_keeps_its_priority(case: Case) -> None:
    """It must not overtake those that are more urgent."""
    delayed(case, "d", priority=7)

    promoted(case, "d")

    assert (case.items("wait"), case.scores("prioritized")) == ([], {"d": 7.0 * FRONT + 1})


def test_only_delayed_jobs_are_promoted(case: Case) -> None:
    """The error says what is wrong; an id without a job goes away, as nobody could run it."""
    case.waiting("w")
    case.redis.zadd(case.keys["delayed"], {"ghost": 1})

    with pytest.raises(JobNotInState, match="is not delayed"):
        promoted(case, "w")
    for job_id in ("nobody", "ghost"):
        with pytest.raises(JobNotFound, match=job_id):
            promoted(case, job_id)

    assert (case.items("wait"), case.scores("delayed"), case.events()) == (["w"], {}, [])


def test_promotion_of_a_paused_queue_marks_nothing(case: Case) -> None:
    """Workers that are woken while the queue is paused ask for nothing."""
    delayed(case, "d")
    case.redis.hset(case.keys["meta"], mapping={"paused": 1, "version": "bullmq:5.81.5"})

    promoted(case, "d")

    assert (case.items("paused"), case.scores("marker")) == (["d"], {})


# ── change_delay ────────────────────────────────────────────────────────────


def test_a_changed_delay_counts_from_now(case: Case) -> None:
    """The score decides, the hash tells, and a worker that sleeps longer learns of it."""
    delayed(case, "d")
    delayed(case, "other", due_ms=NOW + 5000)

    put_off(case, "d", 5000)

    due = (NOW + 5000) * 4096
    assert case.scores("delayed") == {"other": due, "d": due + 1}
    assert (case.hash("d")["delay"], case.scores("marker")) == ("5000", {"1": NOW + 5000})
    assert case.events() == [{"event": "delayed", "jobId": "d", "delay": str(NOW + 5000)}]


def test_only_delayed_jobs_get_a_delay(case: Case) -> None:
    """A job that waits already is not put off."""
    case.waiting("w")

    for job_id, error in (("w", JobNotInState), ("nobody", JobNotFound)):
        with pytest.raises(error):
            put_off(case, job_id, 1)

    assert (case.hash("w")["delay"], case.events()) == ("0", [])


# ── change_priority ─────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("is_first", "place"), [(False, 5.0 * FRONT + 1), (True, 5.0 * FRONT)], ids=["last", "first"]
)
def test_a_waiting_job_gets_a_priority(case: Case, is_first: bool, place: float) -> None:  # noqa: FBT001 - a parameter of the test
    """Node adds no marker for the first place; a worker that sleeps would sleep on."""
    case.waiting("a", "b")

    prioritized(case, "a", 5, is_first=is_first)

    assert (case.items("wait"), case.scores("prioritized")) == (["b"], {"a": place})
    assert (case.hash("a")["priority"], case.scores("marker")) == ("5", {"0": 0.0})
    assert case.events() == []


@pytest.mark.parametrize(
    ("is_first", "items"),
    [(False, ["p", "b", "a"]), (True, ["b", "a", "p"])],
    ids=["last", "first"],
)
def test_a_priority_is_taken_away(case: Case, is_first: bool, items: list[str]) -> None:  # noqa: FBT001 - a parameter of the test
    """Without one it goes before all that have one."""
    case.waiting("a", "b")
    case.job("p", priority=3)
    case.redis.zadd(case.keys["prioritized"], {"p": 3 * FRONT + 1})

    prioritized(case, "p", 0, is_first=is_first)

    assert (case.items("wait"), case.scores("prioritized")) == (items, {})


def test_a_job_of_a_v5_pause_gets_a_priority(case: Case) -> None:
    """Node 6 does not look where version 5 keeps what waits: it changes the hash alone."""
    case.redis.hset(case.keys["meta"], mapping={"paused": 1, "version": "bullmq:5.81.5"})
    case.job("a")
    case.redis.lpush(case.keys["paused"], "a")

    prioritized(case, "a", 5)

    assert (case.items("paused"), list(case.scores("prioritized"))) == ([], ["a"])


def test_other_jobs_only_note_their_priority(case: Case) -> None:
    """It counts when they wait again."""
    case.active("a")
    delayed(case, "d")

    for job_id in ("a", "d"):
        prioritized(case, job_id, 5)
    with pytest.raises(JobNotFound):
        prioritized(case, "nobody", 5)

    assert [case.hash(job_id)["priority"] for job_id in ("a", "d")] == ["5", "5"]
    assert (case.items("active"), case.scores("prioritized")) == (["a"], {})
    assert case.redis.exists(case.keys["nobody"]) == 0


# ── retry ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("state", "field"), [("failed", "failedReason"), ("completed", "returnvalue")]
)
def test_a_retried_job_forgets_how_it_ended(case: Case, state: str, field: str) -> None:
    """But not how often it was tried, nor the traces of what went wrong."""
    facts = {"stacktrace": '["t"]', "sq:cause": "JobCrashed", "sq:signal": "9", "stc": 1}
    finished(case, state, "1", **facts)
    case.waiting("a")

    retried(case, "1", state)

    kept = case.hash("1")
    assert not {field, "finishedOn", "processedOn", "sq:cause", "sq:signal"} & kept.keys()
    assert [kept[name] for name in ("atm", "ats", "stc", "stacktrace")] == ["3", "4", "1", '["t"]']
    assert (case.items("wait"), case.scores(state)) == (["1", "a"], {})
    assert case.scores("marker") == {"0": 0.0}
    assert case.events() == [{"event": "waiting", "jobId": "1", "prev": state}]


def test_a_retried_job_goes_where_it_belongs(case: Case) -> None:
    """Priority and lifo were chosen when it was added, and still hold."""
    case.waiting("a")
    finished(case, "failed", "p", priority=2)
    finished(case, "failed", "l", opts=json.dumps({"lifo": True}))
    finished(case, "failed", "f", opts=json.dumps({"lifo": False, "jobId": '"lifo":true'}))
    finished(case, "failed", "x", opts='{"lifo')

    for job_id in "plfx":
        retried(case, job_id)

    assert case.items("wait") == ["x", "f", "a", "l"]
    assert case.scores("prioritized") == {"p": 2.0 * FRONT + 1}


def test_attempts_can_be_forgotten(case: Case) -> None:
    """Otherwise a job whose attempts are used up is tried once."""
    for job_id in ("1", "2"):
        finished(case, "failed", job_id)

    retried(case, "1", resets=Resets(attempts_made=True))
    retried(case, "2", resets=Resets(attempts_started=True))

    assert ("atm" in case.hash("1"), "ats" in case.hash("1")) == (False, True)
    assert ("atm" in case.hash("2"), "ats" in case.hash("2")) == (True, False)


def test_only_jobs_of_the_state_are_retried(case: Case) -> None:
    """A job that runs must not be queued a second time."""
    case.active("a")
    finished(case, "completed", "c")
    case.redis.zadd(case.keys["failed"], {"ghost": 1})

    for job_id in ("a", "c"):
        with pytest.raises(JobNotInState, match="not failed"):
            retried(case, job_id)
    for job_id in ("nobody", "ghost"):
        with pytest.raises(JobNotFound):
            retried(case, job_id)

    assert (case.items("wait"), case.scores("failed"), case.events()) == ([], {}, [])


@pytest.mark.parametrize("noted_in", ["unsuccessful", "failed", "processed"])
def test_a_retried_child_is_pending_again(case: Case, noted_in: str) -> None:
    """A parent that still waits must wait for it, and forget how it ended before."""
    other = QueueKeys(f"{case.keys.queue}-other")
    case.redis.hset(other["p"], "name", "p")
    state = "completed" if noted_in == "processed" else "failed"
    finished(case, state, "1", parentKey=other["p"])
    if noted_in == "unsuccessful":
        case.redis.zadd(other["p:unsuccessful"], {case.keys["1"]: NOW})
    else:
        case.redis.hset(other[f"p:{noted_in}"], case.keys["1"], "1")

    retried(case, "1", state)

    assert case.redis.smembers(other["p:dependencies"]) == {case.keys["1"]}
    assert case.redis.exists(other[f"p:{noted_in}"]) == 0


def test_a_child_that_its_parent_forgot_stays_forgotten(case: Case) -> None:
    """Nothing may be written for a parent that is gone, or that ignores this child."""
    other = QueueKeys(f"{case.keys.queue}-other")
    case.redis.hset(other["there"], "name", "p")
    for parent in ("gone", "there"):
        finished(case, "failed", parent, parentKey=other[parent])
        retried(case, parent)

    assert case.redis.keys(other["*"]) == [other["there"]]


# ── contents ────────────────────────────────────────────────────────────────


def test_contents_are_written_whoever_runs_the_job(case: Case) -> None:
    """An operator has no lock, and the worker that has one keeps it."""
    case.active("1")

    for kind, payload in (("progress", "7"), ("data", '{"a":1}'), ("log", "line")):
        updated(case, "1", kind, payload)

    assert (case.hash("1")["progress"], case.hash("1")["data"]) == ("7", '{"a":1}')
    assert case.items("1:logs") == ["line"]
    assert case.events() == [{"event": "progress", "jobId": "1", "data": "7"}]
    assert case.redis.get(case.keys["1:lock"]) == TOKEN


@pytest.mark.parametrize("job_id", ["nobody", "meta"])
def test_what_is_no_job_is_not_written(case: Case, job_id: str) -> None:
    """The queue's own hash is no job, though a job could have its name."""
    before = case.redis.hgetall(case.keys["meta"])

    for kind in ("progress", "data", "log"):
        with pytest.raises(JobNotFound):
            updated(case, job_id, kind, "1")

    assert case.redis.hgetall(case.keys["meta"]) == before
    assert case.redis.keys(case.keys["*"]) == [case.keys["meta"]]


def test_logs_are_kept_short(case: Case) -> None:
    """By a limit when a line is added, or by hand."""
    case.job("1")

    for line in "abc":
        updated(case, "1", "log", line, keep_logs=2)
    assert case.items("1:logs") == ["b", "c"]
    assert case.run(lambda broker: change_job.count_logs(broker, case.keys, "1")) == 2
    case.run(lambda broker: change_job.clear_logs(broker, case.keys, "1", keep=1))
    assert case.items("1:logs") == ["c"]
    case.run(lambda broker: change_job.clear_logs(broker, case.keys, "1", keep=0))
    assert case.items("1:logs") == []
