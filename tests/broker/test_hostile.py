"""Keys and fields as none of us writes them: what is wrong with one job stays there."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.commands.add import NewNode, add, add_flow, new_job
from sandboxq.broker.commands.attempts import Report
from sandboxq.broker.commands.bulk import clean, promote_all, retry_all
from sandboxq.broker.commands.change_job import Resets, change_priority, remove
from sandboxq.broker.commands.children import prune
from sandboxq.broker.commands.claim import Bounds, Claimant, arguments_of
from sandboxq.broker.connect.script import load
from sandboxq.errors import QueueError
from sandboxq.model.job import (
    KEEP_ALL,
    KEEP_NONE,
    JobOptions,
    JobState,
    Keep,
)
from sandboxq.model.outcome import (
    AwaitChildren,
    Complete,
    Fail,
    Failed,
    HandBack,
    LimitRate,
    Postpone,
    RetryLater,
    RetryNow,
)
from tests.broker.case import NOW, TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sandboxq.model.outcome import Transition
    from tests.broker.case import Case

DONE = Complete(b"1", KEEP_ALL)
ENDINGS: list[Transition] = [
    DONE,
    Complete(b"1", KEEP_NONE),
    Complete(b"1", Keep(count=9, age=2**52 / 1000, limit=2**53 - 1)),
    Fail(Failed("r", "s", "c"), KEEP_ALL, None, 1),
    Fail(Failed("r"), KEEP_NONE, 2**53 - 1, 2**53 - 1),
    RetryNow(Failed("r", "s"), 3, lifo=True),
    RetryLater(Failed("r"), None, 2**52),
    HandBack(was_started=True, facts={"crashes": "1"}),
    HandBack(),
    Postpone(2**52),
    AwaitChildren(),
    LimitRate(2**52),
]
# Fields of a job's hash as anybody may have written them.
FIELDS: dict[str, list[str]] = {
    "atm": ["abc", "", "nan", "1e400", "-5", "9223372036854775807", "1.5"],
    "ats": ["abc", "", "nan", "-1e400", "9223372036854775807"],
    "stc": ["abc", "", "9223372036854775807", "nan"],
    "priority": ["abc", "nan", "inf", "1e308", "-3", "", "2.5"],
    "delay": ["abc", "nan", "inf", "1e308", "-3", ""],
    "stacktrace": [
        "[NaN]",
        "[1e999]",
        '{"a":1}',
        "[" * 1500,
        "null",
        "7",
        '["a",null,{}]',
        "{",
        "",
    ],
    "opts": ["{", "[]", "null", '{"lifo":[' + "[" * 1500, "1e999", ""],
    "deid": ["x", ""],
    "parentKey": ["", "x", "bull:q:1", ":::", "bull:nowhere:5"],
    "parent": ["{", "null", '{"id":7}', '{"id":"1","queueKey":"no"}', "[" * 1500],
    "rjk": ["x", ""],
    "timestamp": ["", "abc"],
    "sq:binary": ["", "x", "a\nb\nc"],
    "sq:result": ["", "x"],
    "sq:crashes": ["abc"],
}
# Keys beside the jobs, and something that each is not.
BESIDE = [
    "meta",
    "events",
    "marker",
    "limiter",
    "stalled",
    "pc",
    "metrics:completed",
    "de:x",
    "dn:x",
]
PLACES = ["prioritized", "delayed", "completed", "failed", "waiting-children", "repeat"]


@pytest.mark.parametrize(("field", "value"), [(f, v) for f in FIELDS for v in FIELDS[f]])
def test_no_field_of_one_job_keeps_others_from_their_end(
    case: Case, field: str, value: str
) -> None:
    """In whatever way the job itself ends, it is in one place, and its neighbours are completed."""
    odd = {f"odd{i}": ending for i, ending in enumerate(ENDINGS)}
    ids = [each for pair in zip(odd, _neighbours(odd), strict=True) for each in pair]
    case.waiting(*ids)
    for job_id in odd:
        case.redis.hset(case.keys[job_id], mapping={field: value, "sq:cause": "x"})
        if field in {"parentKey", "parent", "deid"}:
            case.redis.hsetnx(case.keys[job_id], "parentKey", case.keys["p"])
            case.redis.hset(case.keys["dn:x"], mapping={"opts": '{"delay":{},"de":5}'})

    assert _claimed_ids(case) == ids
    codes = case.settle(*[(i, odd.get(i, DONE)) for i in ids], metrics_points=5)

    assert codes == [0] * len(ids)
    assert set(_neighbours(odd)) <= set(case.scores("completed"))
    assert [len(_places_of(case, each)) for each in odd] == [_kept(each) for each in odd.values()]


def _neighbours(odd: dict[str, Transition]) -> list[str]:
    return [f"beside-{job_id}" for job_id in odd]


def _kept(ending: Transition) -> int:
    return 0 if isinstance(ending, (Complete, Fail)) and ending.keep == KEEP_NONE else 1


def _empty(case: Case) -> None:
    for key in _keys(case):
        case.redis.delete(key)


def _keys(case: Case) -> set[str]:
    return set(case.redis.scan_iter(case.keys["*"]))


def _claimed_ids(case: Case) -> list[str]:
    """Claim by the script alone: what our side makes of odd fields is another matter."""

    async def claimed(broker: Any) -> list[str]:
        arguments = (NOW, *arguments_of(Claimant(30_000), 100, TOKEN, Bounds(1 << 20)))
        reply = await broker.script(load("claim"), (case.keys.base,), arguments)
        ids = [each for row in reply[0] for each in (row[5::3] if row[0] == 0 else row[:1])]
        return [each.decode() for each in ids]

    ids: list[str] = case.run(claimed)
    return ids


def _places_of(case: Case, job_id: str) -> list[str]:
    """Return all lists and sets that hold the job, as often as they do."""
    found = []
    for name in ("wait", "paused", "active"):
        found += [name] * case.items(name).count(job_id)
    for name in ("delayed", "prioritized", "completed", "failed", "waiting-children"):
        if case.redis.type(case.keys[name]) == "zset":
            found += [name] * (case.redis.zscore(case.keys[name], job_id) is not None)
    return found


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("wrong", ["hash", "string", "list"])
def test_no_key_beside_the_jobs_keeps_them_from_their_end(
    case: Case, name: str, wrong: str
) -> None:
    """Events, markers, counters and settings are what may be lost of a queue; jobs are not."""
    case.redis.delete(case.keys["meta"])
    case.waiting("1", "2", "3", "4", "5")
    case.job("6", priority=3, delay=5, deid="x")
    case.redis.zadd(case.keys["delayed"], {"6": (NOW - 5) * 4096})
    _spoil(case, name, wrong)

    assert sorted(_claimed_ids(case)) == ["1", "2", "3", "4", "5", "6"]
    codes = case.settle(
        *[(i, DONE) for i in "123"],
        ("4", Fail(Failed("r"), KEEP_ALL, None, 1)),
        ("5", RetryNow(Failed("r"), None, lifo=False)),
        ("6", RetryLater(Failed("r"), None, 5)),
        metrics_points=5,
    )
    assert codes == [0] * 6
    assert case.extend(("1", TOKEN)) == ["1"]
    assert [_places_of(case, i) for i in "123456"] == [
        *[["completed"]] * 3, ["failed"], ["wait"], ["delayed"],
    ]  # fmt: skip
    assert case.recover() == []
    assert _added(case, [new_job("n", "{}"), new_job("n", "{}", JobOptions(priority=2))]) == [
        "1",
        "2",
    ]


def _spoil(case: Case, name: str, wrong: str) -> None:
    key = case.keys[name]
    case.redis.delete(key)
    if wrong == "hash":
        case.redis.hset(key, "opts.maxLenEvents" if name == "meta" else "opts", "1e400")
        case.redis.hset(key, mapping={"concurrency": "nan", "max": "x", "duration": "-inf"})
    elif wrong == "string":
        case.redis.set(key, "garbage")
    else:
        case.redis.rpush(key, "garbage")


def _run_add(case: Case, *jobs: Any) -> list[Any]:
    results: list[Any] = case.run(lambda broker: add(broker, case.keys, jobs, now_ms=NOW))
    return results


def _added(case: Case, jobs: list[Any]) -> list[Any]:
    case.redis.delete(*[case.keys[str(i)] for i in range(9)])
    case.redis.delete(case.keys["id"])
    return _run_add(case, *jobs)


@pytest.mark.parametrize("name", PLACES)
def test_where_there_is_no_place_to_go_a_job_stays_active(case: Case, name: str) -> None:
    """One that cannot arrive has not left; the others have arrived."""
    again = RetryNow(Failed("r"), None, lifo=False)
    odd = {f"odd{i}": ending for i, ending in enumerate(ENDINGS)}
    ids = [each for pair in zip(odd, _neighbours(odd), strict=True) for each in pair]
    case.active(*ids)
    for job_id, ending in odd.items():
        case.redis.hset(case.keys[job_id], "priority", 3)
        if isinstance(ending, AwaitChildren):
            case.redis.sadd(case.keys[f"{job_id}:dependencies"], "x")
    case.redis.set(case.keys[name], "no set")

    codes = dict(zip(ids, case.settle(*[(i, odd.get(i, again)) for i in ids]), strict=True))

    assert [codes[each] for each in _neighbours(odd)] == [0] * len(odd)
    assert set(_neighbours(odd)) <= set(case.items("wait"))
    for job_id, ending in odd.items():
        if codes[job_id] == -12:
            assert _places_of(case, job_id) == ["active"]
            assert case.redis.get(case.keys[f"{job_id}:lock"]) == TOKEN
        else:
            assert codes[job_id] == 0
            assert len(_places_of(case, job_id)) == _kept(ending)


@pytest.mark.parametrize("wrong", ["string", "list"])
def test_an_id_whose_key_is_no_job_is_dropped(case: Case, wrong: str) -> None:
    """Claims, stalled checks and promotions go on with the others."""
    case.waiting("1", "3")
    case.job("5")
    case.redis.zadd(case.keys["delayed"], {"4": 4096, "5": 4097})
    case.redis.lpush(case.keys["wait"], "2")
    for job_id in ("2", "4"):
        _spoil(case, job_id, wrong)

    assert sorted(_claimed_ids(case)) == ["1", "3", "5"]
    assert (sorted(case.items("active")), case.scores("delayed")) == (["1", "3", "5"], {})

    case.redis.lpush(case.keys["active"], "2")
    case.redis.delete(*[case.keys[f"{i}:lock"] for i in "135"])
    assert case.recover() == []
    assert sorted(case.recover()) == ["1", "3", "5"]
    assert case.items("active") == []


def test_one_report_that_cannot_be_written(case: Case) -> None:
    """A log of another type, a number of lines that is none."""
    case.active("1", "2", "3")
    case.redis.set(case.keys["2:logs"], "no list")
    token = TOKEN.encode()
    reports = [Report(i.encode(), token, "log", b"x", 2**53 - 1) for i in "123"]
    first, second, third = case.report(*reports)
    assert (first, third) == (0, 0)
    assert "WRONGTYPE" in str(second)
    assert [case.items(f"{i}:logs") for i in "13"] == [["x"], ["x"]]


def test_one_add_that_cannot_be_written(case: Case) -> None:
    """Each job of a batch is added or not by itself; the ids before it are not lost."""
    for job_id in ("2", "own", "4"):
        case.redis.set(case.keys[job_id], "no hash")
    case.redis.set(case.keys["p:dependencies"], "no set")
    case.job("p")
    parent = {"parent": {"id": "p", "queue": case.keys.base[:-1]}}
    jobs = [
        *[new_job("n", "{}")] * 3,
        new_job("n", "{}", JobOptions(priority=1)),
        new_job("n", "{}", JobOptions(job_id="own", extra=parent)),
        new_job("n", "{}", JobOptions(job_id="child", extra=parent)),
        new_job("n", "{}"),
    ]

    results = _run_add(case, *jobs)

    is_added = [isinstance(result, str) for result in results]
    assert is_added == [True, False, True, False, False, False, True]
    assert all("WRONGTYPE" in str(result) for result in results if isinstance(result, QueueError))
    assert case.items("wait")[::-1] == [each for each in results if isinstance(each, str)]
    assert case.scores("prioritized") == {}


def test_an_add_without_a_place_writes_nothing(case: Case) -> None:
    """No hash is left of a job that could not be queued, and no id is given twice."""
    case.redis.set(case.keys["wait"], "no list")
    for job in (new_job("n", "{}"), new_job("n", "{}", JobOptions(job_id="x"))):
        with pytest.raises(QueueError, match="WRONGTYPE"):
            _run_add(case, job)
    case.redis.delete(case.keys["wait"])
    case.redis.set(case.keys["id"], 2**53 - 1)
    with pytest.raises(QueueError, match="at its end"):
        _run_add(case, new_job("n", "{}"))
    assert _keys(case) == {case.keys["meta"], case.keys["id"]}


@pytest.mark.parametrize("spoilt", ["wait", "waiting-children", "b", "b:dependencies"])
def test_a_flow_is_added_whole_or_not_at_all(case: Case, spoilt: str) -> None:
    """Every key that it needs is looked at before the first is written."""
    case.redis.set(case.keys[spoilt], "neither hash nor list nor set")
    before = _keys(case)
    base = case.keys.base[:-1]
    nodes = [NewNode(case.keys, "a", has_children=True, job=new_job("n", "{}"))]
    for child, parent in (("b", "a"), ("c", "b")):
        options = JobOptions(job_id=child, extra={"parent": {"id": parent, "queue": base}})
        nodes.append(NewNode(case.keys, child, child == "b", new_job("n", "{}", options)))
    with pytest.raises(QueueError, match="WRONGTYPE"):
        case.run(lambda broker: add_flow(broker, nodes, now_ms=NOW))
    assert _keys(case) == before


def test_no_job_comes_to_wait_for_itself(case: Case) -> None:
    """A ring of parents never ends; it is refused where the last link would be added."""
    for child, parent in (("b", "a"), ("c", "b")):
        case.job(child, parentKey=case.keys[parent])
    case.job("a")
    link = {"parent": {"id": "c", "queue": case.keys.base[:-1]}}
    job = new_job("n", "{}", JobOptions(job_id="a", extra=link))

    (refusal,) = _run_add(case, job)
    assert "wait for itself" in str(refusal)
    with pytest.raises(QueueError, match="wait for itself"):
        case.run(
            lambda b: add_flow(
                b, [NewNode(case.keys, "a", has_children=False, job=job)], now_ms=NOW
            )
        )
    assert "parentKey" not in case.hash("a")


@pytest.mark.timeout(240)
def test_rings_and_deep_flows_are_removed(case: Case) -> None:
    """Whoever wrote them: a job that is its own child, two that are each other's, 5,000 levels."""
    for job_id, children in {"self": ["self"], "x": ["y"], "y": ["x"]}.items():
        case.waiting(job_id)
        case.redis.sadd(case.keys[f"{job_id}:dependencies"], *map(case.keys.__getitem__, children))
        case.redis.hset(case.keys[job_id], "parentKey", case.keys[children[0]])
    levels = [f"level{i}" for i in range(5000)]
    case.waiting(*levels)
    for above, below in pairwise(levels):
        case.redis.sadd(case.keys[f"{above}:dependencies"], case.keys[below])

    assert case.run(lambda broker: prune(broker, case.keys, "self", lambda _: None)) == 0
    for job_id in ("self", "x", "level0"):
        assert case.run(lambda broker: remove(broker, case.keys, job_id))  # noqa: B023
    assert case.items("wait") == []
    assert [key for key in _keys(case) if key.startswith(case.keys["level"])] == []


@pytest.mark.parametrize(("field", "value"), [(f, v) for f in FIELDS for v in FIELDS[f]])
def test_operators_meet_odd_jobs(case: Case, field: str, value: str) -> None:
    """Promoting, trying again, cleaning, changing: one odd job among others."""
    ids = ["a", "c", "e"]
    for job_id in ids:
        case.job(job_id, finishedOn=1, failedReason="r", deid="d")
    case.redis.hset(case.keys["c"], mapping={field: value, "sq:cause": "c"})
    tried: dict[str, Any] = {"state": JobState.FAILED, "until_ms": NOW, "limit": None}
    changes: dict[str, Callable[[Any], AsyncIterator[int]]] = {
        "delayed": lambda broker: promote_all(broker, case.keys, limit=None),
        "failed": lambda broker: retry_all(broker, case.keys, resets=Resets(), **tried),
    }
    for name, steps in changes.items():
        case.redis.zadd(case.keys[name], dict.fromkeys(ids, 1))
        assert case.run(lambda broker: _sum(steps(broker))) == 3  # noqa: B023
        assert case.scores(name) == {}
        assert all(len(_places_of(case, each)) == 1 for each in ids)
        case.redis.delete(case.keys["wait"], case.keys["prioritized"])
    case.redis.zadd(case.keys["failed"], dict.fromkeys(ids, 1))
    case.run(lambda broker: change_priority(broker, case.keys, "c", priority=1, is_first=False))
    cleaned: dict[str, Any] = {"state": JobState.FAILED, "newest_ms": NOW, "limit": None}
    gone = case.run(lambda broker: _sum(_lengths(clean(broker, case.keys, **cleaned))))
    assert gone == 3


async def _lengths(steps: AsyncIterator[list[str]]) -> AsyncIterator[int]:
    async for ids in steps:
        yield len(ids)


async def _sum(steps: AsyncIterator[int]) -> int:
    return sum([done async for done in steps])
