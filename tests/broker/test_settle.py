"""Settling: completing, failing, retrying, against protocol.md 3.8 to 3.14."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.model.job import KEEP_ALL, KEEP_NONE, Keep
from sandboxq.model.outcome import (
    Complete,
    Fail,
    Failed,
    HandBack,
    RetryLater,
    RetryNow,
)
from tests.broker.case import NOW, traces

if TYPE_CHECKING:
    from sandboxq.model.outcome import Transition
    from tests.broker.case import Case

DONE = Complete(b'{"ok":true}', KEEP_ALL)
THEN = NOW + 5


def failing(
    reason: str = "boom", stack: str = "trace", *, attempts: int = 1, keep: Keep = KEEP_ALL
) -> Fail:
    """Return a final failure."""
    return Fail(Failed(reason, stack), keep, None, attempts)


# ── completed ───────────────────────────────────────────────────────────────


def test_completed(case: Case) -> None:
    """The one transition that everything is about: hash, set, list, lock and event."""
    case.active("1", "2")
    case.redis.sadd(case.keys["stalled"], "1", "2")

    assert case.settle(("1", Complete('{"u":"é"}'.encode(), KEEP_ALL))) == [0]

    fields = case.hash("1")
    assert (fields["returnvalue"], fields["finishedOn"], fields["atm"]) == (
        '{"u":"é"}',
        str(THEN),
        "1",
    )
    assert case.scores("completed") == {"1": THEN}
    assert case.items("active") == ["2"]
    assert not case.redis.exists(case.keys["1:lock"])
    assert case.redis.exists(case.keys["2:lock"])
    assert case.redis.smembers(case.keys["stalled"]) == {"2"}
    assert [list(event.items()) for event in case.events()] == [
        [
            ("event", "completed"),
            ("jobId", "1"),
            ("returnvalue", '{"u":"é"}'),
            ("prev", "active"),
        ]
    ]


def test_values_are_bytes(case: Case) -> None:
    """Nothing between child and Redis may touch a value."""
    case.active("1")
    value = b'"\\u0000 \xf0\x9f\x98\x80 \x00\r\n$5"'
    case.settle(("1", Complete(value, KEEP_ALL)))
    client = type(case.redis).from_url(case.url)
    assert client.hget(case.keys["1"], "returnvalue") == value
    client.close()


def test_attempts_made_goes_on_counting(case: Case) -> None:
    """`atm` counts earlier attempts too."""
    case.active("1", atm=2)
    case.settle(("1", DONE))
    assert case.hash("1")["atm"] == "3"


def test_a_batch_of_everything(case: Case) -> None:
    """One call settles different endings, each on its own, and answers in order."""
    case.active("c", "f", "r", "d", "gone")
    case.redis.delete(case.keys["gone"])

    codes = case.settle(
        ("d", RetryLater(Failed("e"), None, 1000)),
        ("gone", DONE),
        ("c", DONE),
        ("r", RetryNow(Failed("e"), None, lifo=False)),
        ("f", failing()),
    )

    assert codes == [0, -1, 0, 0, 0]
    assert case.scores("completed") == {"c": THEN}
    assert case.scores("failed") == {"f": THEN}
    assert case.items("wait") == ["r"]
    assert list(case.scores("delayed")) == ["d"]
    assert case.items("active") == ["gone"]


def test_more_than_a_hundred(case: Case) -> None:
    """Several script calls, one answer."""
    for start in (0, 100, 200):
        case.active(*map(str, range(start, min(start + 100, 250))))
    codes = case.settle(*[(str(number), DONE) for number in range(250)])
    assert codes == [0] * 250
    assert case.redis.zcard(case.keys["completed"]) == 250


@pytest.mark.parametrize(("limit", "kept"), [(None, 3), (5, 3), (2, 2), (0, 0), (-1, 0)])
def test_stack_traces_are_limited(case: Case, limit: int | None, kept: int) -> None:
    """A thousand retries must not fill Redis; no limit that a producer writes may hang it."""
    for number in range(3):
        case.active("1")
        failure = Failed("e", f"trace {number}")
        case.settle(("1", Fail(failure, KEEP_ALL, limit, 9)))

    assert traces(case.hash("1")) == [f"trace {number}" for number in range(3)][3 - kept :]


# ── who may settle ──────────────────────────────────────────────────────────


def test_settling_twice_is_harmless(case: Case) -> None:
    """An outcome whose answer got lost is sent again."""
    case.active("1")
    assert case.settle(("1", DONE), ("1", failing())) == [0, -2]
    before = (case.hash("1"), case.events())
    assert case.settle(("1", DONE)) == [-2]
    assert (case.hash("1"), case.events()) == before
    assert case.scores("failed") == {}


@pytest.mark.parametrize("transition", [DONE, failing(), RetryNow(Failed(""), None, lifo=False)])
def test_refusals(case: Case, transition: Transition) -> None:
    """Who does not hold the lock changes nothing."""
    case.active("1", "2", "3")
    case.redis.delete(case.keys["2:lock"], case.keys["3"])
    before = case.hash("1")

    codes = case.settle(("1", transition), ("2", transition), ("3", transition), token="other")  # noqa: S106

    assert codes == [-6, -2, -1]
    assert case.hash("1") == before
    assert case.items("active") == ["3", "2", "1"]
    assert case.redis.exists(case.keys["1:lock"])
    assert case.events() == []


def test_not_active_releases_the_lock_and_writes_the_failure(case: Case) -> None:
    """G22: code -3 comes after the lock and the fields."""
    case.active("1", "2")
    case.redis.delete(case.keys["active"])
    assert case.settle(("1", DONE), ("2", failing())) == [-3, -3]
    assert not case.redis.exists(case.keys["1:lock"], case.keys["2:lock"])
    assert "finishedOn" not in case.hash("1")
    assert case.hash("2")["failedReason"] == "boom"
    assert case.scores("completed") == case.scores("failed") == {}


def test_pending_and_failed_children_refuse_completion(case: Case) -> None:
    """The job keeps its lock: its worker decides what to do instead. Failing is always possible."""
    case.active("p", "u", "other")
    case.redis.sadd(case.keys["p:dependencies"], "bull:c:1")
    case.redis.zadd(case.keys["u:unsuccessful"], {"bull:c:2": 1})

    assert case.settle(("p", DONE), ("u", DONE), ("other", DONE)) == [-4, -9, 0]
    assert case.redis.exists(case.keys["p:lock"], case.keys["u:lock"]) == 2
    assert case.settle(("p", failing()), ("u", failing())) == [0, 0]


def test_token_zero_asks_for_no_lock(case: Case) -> None:
    """BullMQ's token of manual processing."""
    case.waiting("1")
    case.claim(token="0")  # noqa: S106
    assert not case.redis.exists(case.keys["1:lock"])
    assert case.settle(("1", DONE), token="0") == [0]  # noqa: S106


# ── failed ──────────────────────────────────────────────────────────────────


def test_failed(case: Case) -> None:
    """Reason raw, traces as a JSON array, the deferred failure gone, both events."""
    case.active("1", defa="old", stacktrace='["first\\/"]', atm=1)

    assert case.settle(("1", failing('böse "x"', "tr é\n", attempts=2))) == [0]

    fields = case.hash("1")
    assert fields["failedReason"] == 'böse "x"'
    assert traces(fields) == ["first/", "tr é\n"]
    assert (fields["finishedOn"], fields["atm"]) == (str(THEN), "2")
    assert "defa" not in fields
    assert case.scores("failed") == {"1": THEN}
    assert [list(event.values()) for event in case.events()] == [
        ["failed", "1", 'böse "x"', "active", "2", ""],
        ["retries-exhausted", "1", "2"],
        ["drained"],
    ]
    assert list(case.events()[1]) == ["event", "jobId", "attemptsMade"]


def test_unrecoverable_failures_do_not_exhaust(case: Case) -> None:
    """With attempts left there is no such event (3.11.8); attempts 0 is like 1."""
    case.active("left", "none")
    case.settle(("left", failing(attempts=5)), ("none", failing(attempts=0)))
    assert [e["jobId"] for e in case.events() if e["event"] == "retries-exhausted"] == ["none"]


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, ["a", "b", "c"]), (2, ["b", "c"]), (1, ["c"]), (0, [])]
)
def test_stack_trace_limit(case: Case, limit: int | None, expected: list[str]) -> None:
    """The newest stay; none is an empty array, not an empty object, which breaks dashboards."""
    case.active("1", stacktrace='["a","b"]')
    case.settle(("1", Fail(Failed("r", "c"), KEEP_ALL, limit, 1)))
    assert traces(case.hash("1")) == expected


@pytest.mark.parametrize("stored", ["not json", '"text"', ""])
def test_unreadable_traces_are_replaced(case: Case, stored: str) -> None:
    """A foreign client's slip must not keep a job from failing."""
    case.active("1", stacktrace=stored)
    assert case.settle(("1", failing())) == [0]
    assert traces(case.hash("1")) == ["trace"]


def test_a_failure_without_a_trace_is_in_the_list_too(case: Case) -> None:
    """A timeout has a reason and no stack; Node counts an entry for each failed attempt."""
    case.active("1")
    case.settle(("1", Fail(Failed("too slow", cause="JobTimeout"), KEEP_ALL, None, 1)))
    assert traces(case.hash("1")) == ["JobTimeout: too slow"]


def test_odd_text_survives(case: Case) -> None:
    """Paths with undecodable bytes end up in messages; they must not end the settler."""
    case.active("1")
    case.settle(("1", failing("bad \udcff name", "s \udcff 😀")))
    assert case.hash("1")["failedReason"] == "bad \\udcff name"
    assert traces(case.hash("1")) == ["s \\udcff 😀"]


def test_cause_and_facts(case: Case) -> None:
    """What is known of a death is stored with the job; a later attempt's failure replaces it."""
    case.active("1")
    death = Failed("died", cause="JobCrashed", facts={"signal": "9", "pid": "77"})
    case.settle(("1", RetryNow(death, None, lifo=False)))
    stored = {k: v for k, v in case.hash("1").items() if k.startswith("sq:")}
    assert stored == {"sq:cause": "JobCrashed", "sq:signal": "9", "sq:pid": "77"}

    case.claim()
    case.settle(("1", RetryNow(Failed("x", cause="ValueError"), None, lifo=False)))
    stored = {k: v for k, v in case.hash("1").items() if k.startswith("sq:")}
    assert stored == {"sq:cause": "ValueError"}


def test_crashes_outlast_what_is_known_of_one_attempt(case: Case) -> None:
    """They are counted over all attempts, also over those that raise, and over a hand-back."""
    case.active("1")
    death = Failed("died", cause="JobExited", facts={"crashes": "1", "history": "exit code 3"})
    case.settle(("1", RetryNow(death, None, lifo=False)))
    case.claim()
    case.redis.hset(case.keys["1"], "sq:binary", "where its arrays are")
    case.settle(("1", RetryNow(Failed("x", cause="ValueError"), None, lifo=False)))
    assert case.hash("1")["sq:binary"] == "where its arrays are"
    assert (case.hash("1")["sq:crashes"], case.hash("1")["sq:cause"]) == ("1", "ValueError")

    case.claim()
    case.settle(("1", HandBack(was_started=True, facts={"crashes": "2", "history": "a, b"})))
    assert (case.hash("1")["sq:crashes"], case.hash("1")["sq:history"]) == ("2", "a, b")
    assert case.hash("1")["atm"] == "2"


# ── retries ─────────────────────────────────────────────────────────────────


def test_retry_now(case: Case) -> None:
    """To the back of wait, or the front; the attempt counts; no `failed` event."""
    case.active("1", "2")
    case.waiting("w")

    case.settle(
        ("1", RetryNow(Failed("boom", "t"), None, lifo=False)),
        ("2", RetryNow(Failed("boom", "t"), None, lifo=True)),
    )

    assert case.items("wait") == ["1", "w", "2"]
    fields = case.hash("1")
    assert (fields["atm"], fields["failedReason"], traces(fields)) == ("1", "boom", ["t"])
    assert "finishedOn" not in fields
    assert case.events() == [{"event": "waiting", "jobId": i, "prev": "active"} for i in "12"]
    assert case.scores("marker") == {"0": 0.0}
    assert not case.redis.exists(case.keys["1:lock"], case.keys["2:lock"])


def test_retry_now_of_a_prioritized_job(case: Case) -> None:
    """It goes behind its equals, in its set."""
    case.active("1", priority=4)
    case.redis.set(case.keys["pc"], 8)
    case.settle(("1", RetryNow(Failed(""), None, lifo=False)))
    assert case.scores("prioritized") == {"1": 4 * 2**32 + 9}


def test_retry_now_promotes_what_is_due(case: Case) -> None:
    """As every retry of BullMQ does, before its own job."""
    case.active("1")
    case.job("d", delay=1)
    case.redis.zadd(case.keys["delayed"], {"d": NOW * 4096})
    case.settle(("1", RetryNow(Failed(""), None, lifo=False)))
    assert case.items("wait") == ["1", "d"]


def test_retry_on_a_paused_queue(case: Case) -> None:
    """No marker; and for the sake of v5 clients the list that they use (9.2)."""
    case.active("1")
    case.redis.hset(case.keys["meta"], mapping={"paused": 1, "version": "bullmq:5.81.5"})
    case.settle(("1", RetryNow(Failed(""), None, lifo=False)))
    assert case.items("paused") == ["1"]
    assert not case.redis.exists(case.keys["marker"], case.keys["wait"])


def test_retry_later(case: Case) -> None:
    """Score, hash, event and the marker of the earliest delayed job."""
    case.active("1", "2")
    later = RetryLater(Failed("boom", "t"), None, 200)

    case.settle(("1", later), ("2", later))

    due = THEN + 200
    assert case.scores("delayed") == {"1": due * 4096, "2": due * 4096 + 1}
    fields = case.hash("1")
    assert (fields["delay"], fields["atm"], fields["failedReason"]) == ("200", "1", "boom")
    assert case.events() == [
        {"event": "delayed", "jobId": i, "delay": str(due)} for i in ("1", "2")
    ]
    assert case.scores("marker") == {"1": due}
    assert case.claim(now_ms=due - 1).jobs == []
    assert len(case.claim(now_ms=due).jobs) == 2


def test_the_last_slot_of_a_millisecond_is_shared(case: Case) -> None:
    """4096 jobs fit between two milliseconds; more must not spill into the next."""
    case.active("1")
    due = THEN + 200
    case.redis.zadd(case.keys["delayed"], {"x": due * 4096 + 4095})
    case.settle(("1", RetryLater(Failed(""), None, 200)))
    assert case.scores("delayed")["1"] == due * 4096 + 4095


# ── events ──────────────────────────────────────────────────────────────────


def test_drained_once_when_all_is_empty(case: Case) -> None:
    """Not for each job of the batch, and not while something waits."""
    case.active("1", "2", "3")
    case.settle(("1", DONE))
    assert "drained" not in [e["event"] for e in case.events()]
    case.settle(("2", DONE), ("3", DONE))
    assert [e["event"] for e in case.events()].count("drained") == 1
    assert case.events()[-1] == {"event": "drained"}


def test_drained_not_after_a_retry(case: Case) -> None:
    """Nothing finished, or the job waits again."""
    case.active("1", "2")
    case.settle(
        ("1", RetryLater(Failed(""), None, 10)), ("2", RetryNow(Failed(""), None, lifo=True))
    )
    assert "drained" not in [e["event"] for e in case.events()]


def test_the_stream_is_trimmed(case: Case) -> None:
    """About as many events stay as the queue's meta says; written there when nobody has yet."""
    case.redis.hset(case.keys["meta"], "opts.maxLenEvents", 10)
    pipe = case.redis.pipeline()
    for _ in range(3000):
        pipe.xadd(case.keys["events"], {"event": "x"})
    case.waiting("1")
    case.claim()
    pipe.execute()
    case.settle(("1", DONE))
    assert case.redis.xlen(case.keys["events"]) < 500

    case.redis.delete(case.keys["meta"])
    case.waiting("2")
    case.claim()
    case.settle(("2", DONE))
    assert case.redis.hget(case.keys["meta"], "opts.maxLenEvents") == "10000"


# ── one job in trouble ──────────────────────────────────────────────────────


def test_a_parent_that_cannot_be_told_keeps_nobody_from_its_end(case: Case) -> None:
    """Its keys are spoilt, and no run of the child would mend them."""
    case.active("1", "bad", "3")
    case.redis.hset(case.keys["bad"], "parentKey", case.keys["p"])
    case.redis.set(case.keys["p:dependencies"], "not a set")

    assert case.settle(("1", DONE), ("bad", DONE), ("3", DONE)) == [0, 0, 0]

    assert case.scores("completed") == dict.fromkeys(["1", "bad", "3"], THEN)
    assert case.items("active") == []


# ── nothing left behind ─────────────────────────────────────────────────────


def test_keep_none_leaves_nothing(case: Case) -> None:
    """Removed at once, with all its keys; the events are still sent."""
    case.active("c", "f")
    case.redis.rpush(case.keys["c:logs"], "l")
    case.settle(("c", Complete(b"1", KEEP_NONE)), ("f", failing(keep=KEEP_NONE)))
    assert case.keys_of("c") == case.keys_of("f") == set()
    assert case.scores("completed") == case.scores("failed") == {}
    assert [e["event"] for e in case.events()] == [
        "completed",
        "failed",
        "retries-exhausted",
        "drained",
    ]


# ── a lock that has run out ─────────────────────────────────────────────────


def test_an_outcome_is_taken_without_its_lock_while_nobody_has_the_job(case: Case) -> None:
    """The job would be found stalled and run again for nothing, its result being here."""
    case.active("1", "2", "3")
    case.redis.delete(case.keys["1:lock"], case.keys["2:lock"])
    case.redis.set(case.keys["3:lock"], "another")
    case.redis.lrem(case.keys["active"], 0, "2")
    case.redis.lpush(case.keys["wait"], "2")

    codes = case.settle(("1", DONE), ("2", DONE), ("3", DONE), retake=True)

    assert codes == [0, -2, -6]
    assert case.scores("completed") == {"1": THEN}
    assert case.settle(("1", DONE), retake=True) == [-2]
