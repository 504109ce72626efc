"""Options and rows as no program of ours would write them: both workers make the same of them.

What Node cannot run at all (it leaves the job active for ever, or half settled) is not here: that
ends with a reason, see tests/broker/test_hostile.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.interop.conftest import NEWEST_ONLY
from tests.interop.pair import CHILDREN

if TYPE_CHECKING:
    from tests.interop.node_driver import NodeSide
    from tests.interop.pair import Pair

pytestmark = NEWEST_ONLY

FAILING = {"times": 9, "message": "zu groß"}
METADATA = '{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}'

FAIL_OPTIONS: list[dict[str, Any]] = [
    *[{"attempts": value} for value in ("3", 2.5, 1.01, -1, None, 1e300)],
    *[
        {"attempts": 2, "backoff": value}
        for value in (0, 0.5, 2.5, 10.6, None, "", {"type": "exponential"}, {"type": "fixed"})
    ],
    *[
        {"attempts": 3, "backoff": {"type": kind, **rest}}
        for kind in ("fixed", "exponential")
        for rest in ({"delay": "2"}, {"delay": 3.3}, {"delay": None}, {"delay": 5, "jitter": "0"})
    ],
    *[{"attempts": 3, "stackTraceLimit": value} for value in (0, -1, "1", None, 1.5, "x")],
]
ECHO_OPTIONS: list[dict[str, Any]] = [
    *[{"priority": value} for value in (2_097_151, None, 0, -1)],
    *[{"delay": value} for value in ("30", -100, 0.5, 10.7, None, 0, "0")],
    *[{"lifo": value} for value in ("yes", 0, 1, None)],
    *[{"timestamp": value} for value in (0, 1.5, "1700000000000", None, -5)],
    *[
        {"jobId": value}
        for value in ("größe 🙂", "a:b:c", "0x", "a b", "a\nb", "", "-5x", "1.5", "{tag}", "'\"\\")
    ],
    {"jobId": "x" * 2000},
    {"unknown": {"a": [], "b": None, "c": 1e20, "d": 0.1}, "large": "x" * 50_000},
    {"sizeLimit": "100"},
    {"repeat": {"every": 10}},
    {"failParentOnFailure": True},
    {"telemetry": {"metadata": METADATA, "omitContext": True}},
]
NAMES = ["größe 🙂", "a:b", "x" * 2000, "a\nb", "\u0000", " "]
KEEP_LOGS: list[Any] = [0, "1", None, 1]

# Fields of a job that runs twice, as somebody else has left them; None: none.
ROWS: list[dict[str, str | None]] = [
    {"atm": "1"},
    {"ats": "5"},
    {"stc": "3"},
    {"stacktrace": "no JSON"},
    {"stacktrace": '["a"]'},
    {"priority": "x"},
    {"delay": "x"},
    {"timestamp": "x"},
    {"timestamp": None},
    {"delay": None, "priority": None},
    {"attemptsMade": "1"},
    {"returnvalue": "no JSON"},
    {"failedReason": "old"},
    {"defa": "gone wrong"},
    {"processedOn": "5"},
    {"finishedOn": "5"},
    {"deid": ""},
    {"deid": "nobody's"},
    {"rjk": ""},
    {"own": "x"},
    {"opts": None},
    {"opts": ""},
    {"opts": "{}"},
]

RULES: list[Any] = [
    *[True, False, 0, 1, 3, -1, "2", "", None, []],
    *[{}, {"count": 2}, {"count": 0}, {"count": None}, {"count": -1}, {"count": -5}],
    *[{"age": 0}, {"age": -1}, {"age": "0"}, {"age": 1000, "limit": 1}, {"age": 1e300}],
    *[{"count": 1, "age": 0}, {"age": None, "count": 2}, {"limit": 1}, {"count": 2, "limit": 1}],
]


async def test_odd_options(pair: Pair) -> None:
    """Numbers as text, fractions, negative ones: a JavaScript program checks nothing of it."""
    ids = [await pair.add_to_both("fail", {**FAILING, "times": 3}, each) for each in FAIL_OPTIONS]
    ids += [await pair.add_to_both("echo", 1, each) for each in ECHO_OPTIONS]
    ids += [await pair.add_to_both(name, name) for name in NAMES]
    ids += [await pair.add_to_both("report", {}, {"keepLogs": each}) for each in KEEP_LOGS]

    await pair.run_both(ids)

    assert pair.differences(ran=True) == []


async def test_odd_rows(pair: Pair) -> None:
    """A job that was written by another library, or by hand, runs as it would in Node."""
    ids = []
    for fields in ROWS:
        ids.append(await pair.add_to_both("fail", {**FAILING, "times": 1}, {"attempts": 2}))
        pair.set_in_both(ids[-1], fields)

    await pair.run_both(ids)

    assert pair.differences(ran=True) == []


async def test_odd_rules_of_what_is_kept(pair: Pair) -> None:
    """A rule that is read otherwise fills Redis, or removes what somebody wants to look at."""
    async with pair.workers():
        for rule in RULES:
            ids = [await pair.add_to_both("echo", 1), await pair.add_to_both("echo", 2)]
            ids.append(await pair.add_to_both("echo", 3, {"removeOnComplete": rule}))
            ids.append(await pair.add_to_both("fail", FAILING))
            ids.append(await pair.add_to_both("fail", FAILING, {"removeOnFail": rule}))
            await pair.until_ended(ids)
            assert pair.differences(ran=True) == [], rule


async def test_odd_priorities(pair: Pair) -> None:
    """Node adds with a negative one, and changes to any: such a job keeps its place all along."""
    ids = [
        await pair.add_to_both(name, data, {"attempts": 2, "backoff": 10, "priority": 5})
        for name, data in (("fail", FAILING), ("postpone", {"ms": 10}), ("put-back", {}))
    ]
    for side in pair.sides():
        for job_id, priority in zip(ids, (-1, -2_097_151, 3_000_000), strict=True):
            args = [{"priority": priority}]
            await side.call("jobMethod", id=job_id, method="changePriority", args=args)
        await _add_families(pair, side)
        for number in (1, 2):
            opts = {"delay": 3_600_000, "priority": -number, "jobId": f"late{number}"}
            await side.add("echo", number, opts)
    await pair.run_both(ids)
    await pair.run_both(["child"], place=CHILDREN)
    assert pair.differences("", CHILDREN, ran=True) == []

    async with pair.ours.queue() as queue:
        await pair.node.call("jobMethod", id=ids[0], method="retry", args=["failed"])
        await queue.retry(ids[0])
        await pair.node.call("jobMethod", id="late1", method="promote", args=[])
        await queue.promote("late1")
    assert pair.differences(ran=True) == []


async def _add_families(pair: Pair, side: NodeSide) -> None:
    below = pair.children(side).queue_name
    child = {"name": "echo", "queueName": below, "opts": {"jobId": "child"}}
    root = {"name": "root", "queueName": side.queue_name, "opts": {"jobId": "root", "priority": -7}}
    await side.call("flow", tree={**root, "children": [child]})
