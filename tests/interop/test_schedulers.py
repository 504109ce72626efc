"""Job schedulers: made and run by Node and by sandboxq, they must leave the same in Redis."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import time
import uuid
from operator import itemgetter
from typing import Any

import pytest

from sandboxq.queue.queue import Queue
from sandboxq.queue.schedulers import Repeat
from tests.conftest import wait_until_async
from tests.interop.dump import dump
from tests.interop.node_driver import NodeSide
from tests.interop.our_side import OurSide
from tests.interop.pair import differences

FAR = dt.datetime(2090, 1, 1, tzinfo=dt.UTC)
SOON = dt.datetime(2080, 6, 1, 12, 0, 1, tzinfo=dt.UTC)
OPTIONS = {"attempts": 2, "removeOnComplete": 7}
OUR_OPTIONS = {"attempts": 2, "remove_on_complete": 7}


def ms(date: dt.datetime) -> int:
    """Return epoch milliseconds, as Node wants dates."""
    return round(date.timestamp() * 1000)


FAILURE_FLAGS = {
    "fail": "failParentOnFailure",
    "continue": "continueParentOnFailure",
    "ignore": "ignoreDependencyOnFailure",
    "remove": "removeDependencyOnFailure",
}
# (Node's repeat options, ours, template data, template options for Node, for us)
UPSERTS: list[tuple[dict[str, Any], Repeat, Any, dict[str, Any], dict[str, Any]]] = [
    ({"every": 60_000}, Repeat(every=60), None, {}, {}),
    ({"every": 60_000, "limit": 3}, Repeat(every=60, limit=3), {"s": "größer 🙂"}, {}, {}),
    ({"every": 60_000, "offset": 15_000}, Repeat(every=60, offset=15), 5, OPTIONS, OUR_OPTIONS),
    (
        {"every": 60_000, "startDate": ms(SOON), "endDate": ms(FAR)},
        Repeat(every=60, start_date=SOON, end_date=FAR),
        [1],
        {"priority": 3},
        {"priority": 3},
    ),
    (
        {"pattern": "0 0 3 * * *", "tz": "Europe/Berlin", "endDate": ms(FAR)},
        Repeat(cron="0 0 3 * * *", tz="Europe/Berlin", end_date=FAR),
        {},
        OPTIONS,
        OUR_OPTIONS,
    ),
    (
        {"pattern": "30 4 * * 1-5", "tz": "America/New_York", "startDate": ms(SOON), "limit": 9},
        Repeat(cron="30 4 * * 1-5", tz="America/New_York", start_date=SOON, limit=9),
        {"a": 1},
        {"lifo": True, "keepLogs": 3},
        {"lifo": True, "keep_logs": 3},
    ),
    (
        {"pattern": "0 0 3 1 1 *", "tz": "UTC", "immediately": True},
        Repeat(cron="0 0 3 1 1 *", tz="UTC", immediately=True),
        None,
        {"priority": 2},
        {"priority": 2},
    ),
    *[
        ({"every": 60_000}, Repeat(every=60), None, {flag: True}, {"on_failure": policy})
        for policy, flag in FAILURE_FLAGS.items()
    ],
]


# ── what is compared ────────────────────────────────────────────────────────

_JOB_ID = re.compile(r"(repeat:[^:\"]+):(\d{13})")


def schedule_dump(url: str, queue_name: str) -> dict[str, Any]:
    """Return the queue's keys; the times in ids of iterations become their rank."""
    text = json.dumps(dump(url, queue_name), ensure_ascii=False)
    times: dict[str, set[str]] = {}
    for scheduler, when in _JOB_ID.findall(text):
        times.setdefault(scheduler, set()).add(when)
    text = _JOB_ID.sub(
        lambda match: f"{match[1]}:#{sorted(times[match[1]]).index(match[2]) + 1}", text
    )
    found: dict[str, Any] = json.loads(text)
    for fields in found.values():
        if isinstance(fields, dict):
            _mask(fields)
    for name in ("stalled", "stalled-check"):
        # When a worker last looked for stalled jobs depends on timing.
        found.pop(name, None)
    # Node's worker tells it by what its next claim found, ours by what is left.
    found["events"] = [each for each in found["events"] if each["event"] != "drained"]
    return dict(sorted(found.items()))


def _mask(fields: dict[str, Any]) -> None:
    """Hide what depends on the millisecond, and what only version 5 writes."""
    fields.pop("nrjid", None)
    opts = fields.get("opts")
    if isinstance(opts, dict) and opts.get("delay"):
        opts["delay"] = "<ms>"
    if fields.get("delay") not in (None, "0"):
        fields["delay"] = "<ms>"
    if "every" in fields and fields.get("offset") not in (None, "0", "15000"):
        fields["offset"] = "<ms>"


def _forget_lateness(found: dict[str, Any]) -> None:
    """Hide whether a job was due already when it was made: a busy machine is late."""
    found["events"] = [each for each in found["events"] if each["event"] != "delayed"]
    found["events"].sort(key=itemgetter("jobId"))  # those of one job stay in their order
    for each in found["events"]:
        if each["event"] == "waiting":
            each.pop("prev", None)
    for fields in found.values():
        if isinstance(fields, dict):
            fields.pop("delay", None)
            if isinstance(fields.get("opts"), dict):
                fields["opts"].pop("delay", None)


def assert_same(url: str, ours: str, theirs: str, *, ran: bool = False) -> None:
    """Compare two queues key by key; ``ran``: their jobs became due and were run."""
    our_keys, their_keys = schedule_dump(url, ours), schedule_dump(url, theirs)
    for keys in (our_keys, their_keys) if ran else ():
        _forget_lateness(keys)
    assert our_keys.keys() == their_keys.keys()
    for key, content in their_keys.items():
        assert our_keys[key] == content, key


async def until_completed(url: str, queue_name: str, count: int) -> None:
    """Wait until so many jobs of a queue have completed."""
    async with Queue(queue_name, url) as queue:

        async def are_completed() -> bool:
            return (await queue.counts())["completed"] >= count

        await wait_until_async(are_completed)


# ── upsert, get, remove ─────────────────────────────────────────────────────


async def test_upserts_leave_the_same(node: NodeSide, our_twin: OurSide, server_url: str) -> None:
    """The record of a scheduler and its first job are read by workers of every language."""
    async with our_twin.queue() as queue:
        for number, (theirs, ours, data, node_opts, our_opts) in enumerate(UPSERTS):
            template = {"name": "tick", "data": data, "opts": node_opts}
            await node.queue("upsertJobScheduler", f"s{number}", theirs, template)
            await queue.upsert_scheduler(
                f"s{number}",
                ours,
                name="tick",
                data=data,
                options=our_opts,  # type: ignore[arg-type]
            )

    assert_same(server_url, our_twin.queue_name, node.queue_name)


async def test_changes_leave_the_same(node: NodeSide, our_twin: OurSide, server_url: str) -> None:
    """A scheduler is upserted at each deploy: the job that waits is replaced, not doubled."""
    daily, other = "0 0 3 * * *", "0 0 4 * * *"
    steps: list[tuple[str, dict[str, Any], Repeat]] = [
        ("a", {"every": 60_000, "offset": 15_000}, Repeat(every=60, offset=15)),
        ("a", {"every": 60_000, "offset": 15_000}, Repeat(every=60, offset=15)),
        ("a", {"every": 90_000, "offset": 15_000}, Repeat(every=90, offset=15)),
        ("b", {"pattern": daily, "tz": "UTC"}, Repeat(cron=daily, tz="UTC")),
        ("b", {"pattern": daily, "tz": "UTC"}, Repeat(cron=daily, tz="UTC")),
        ("b", {"pattern": other, "tz": "UTC"}, Repeat(cron=other, tz="UTC")),
        ("b", {"every": 60_000, "startDate": ms(SOON)}, Repeat(every=60, start_date=SOON)),
        ("c", {"pattern": daily, "tz": "UTC"}, Repeat(cron=daily, tz="UTC")),
    ]
    async with our_twin.queue() as queue:
        for scheduler_id, theirs, ours in steps:
            await node.queue("upsertJobScheduler", scheduler_id, theirs, {"data": {"n": 1}})
            await queue.upsert_scheduler(scheduler_id, ours, data={"n": 1})
        assert_same(server_url, our_twin.queue_name, node.queue_name)

        for scheduler_id, is_there in (("a", True), ("c", True), ("c", False)):
            assert await node.queue("removeJobScheduler", scheduler_id) is is_there
            assert await queue.remove_scheduler(scheduler_id) is is_there
        assert_same(server_url, our_twin.queue_name, node.queue_name)


async def test_each_side_reads_and_changes_the_others(node: NodeSide, ours: OurSide) -> None:
    """Dashboards in Node show ours, and operators in Python change Node's."""
    async with ours.queue() as queue:
        await queue.upsert_scheduler(
            "ours", Repeat(cron="0 0 3 * * *", tz="Europe/Berlin", limit=5), data={"a": 1}
        )
        await node.queue(
            "upsertJobScheduler",
            "theirs",
            {"every": 3_600_000, "offset": 1000},
            {"name": "tick", "data": 7, "opts": {"priority": 3}},
        )

        shown = await node.queue("getJobSchedulers", 0, -1, True)  # noqa: FBT003 - Node's signature
        seen = {each["key"]: each for each in shown}
        found = await queue.get_scheduler("theirs")
        mine = await queue.get_scheduler("ours")

        assert seen["ours"]["pattern"] == "0 0 3 * * *"
        assert (seen["ours"]["tz"], seen["ours"]["limit"]) == ("Europe/Berlin", 5)
        assert seen["ours"]["template"]["data"] == {"a": 1}
        assert found is not None
        assert mine is not None
        assert (found.every, found.offset, found.data) == (3600.0, 1.0, 7)
        assert found.options is not None
        assert (found.options.priority, found.name, found.iterations) == (3, "tick", 1)
        assert {"ours": mine.next_ms, "theirs": found.next_ms} == {
            key: each["next"] for key, each in seen.items()
        }
        everyone = await queue.get_schedulers(ascending=True)
        assert [each.id for each in everyone] == list(seen)
        assert await node.queue("getJobSchedulersCount") == await queue.count_schedulers() == 2

        await queue.upsert_scheduler("theirs", Repeat(every=7200), name="tock")
        await node.queue("upsertJobScheduler", "ours", {"every": 1000}, {"name": "tock"})
        changed = await queue.get_scheduler("ours")
        assert changed is not None
        assert (changed.every, changed.cron, changed.name) == (1.0, None, "tock")
        assert (await node.queue("getJobScheduler", "theirs"))["every"] == 7_200_000
        assert (await queue.counts())["delayed"] + (await queue.counts())["waiting"] == 2


# ── chains ──────────────────────────────────────────────────────────────────

CHAINS: list[tuple[str, dict[str, Any], Repeat, dict[str, Any], int]] = [
    ("every", {"every": 200, "limit": 4}, Repeat(every=0.2, limit=4), {}, 4),
    (
        "cron",
        {"pattern": "* * * * * *", "tz": "UTC", "limit": 3},
        Repeat(cron="* * * * * *", tz="UTC", limit=3),
        {"priority": 2},
        3,
    ),
]


@pytest.mark.parametrize("chain", CHAINS, ids=["every", "cron"])
async def test_chains_are_the_same(
    node: NodeSide, our_twin: OurSide, server_url: str, chain: tuple[Any, ...]
) -> None:
    """Whoever claims a job makes the next one: three pairs of maker and worker, and Node alone."""
    name, theirs, ours, opts, count = chain
    others = [NodeSide(node.driver, f"q-{uuid.uuid4().hex[:12]}", node.version) for _ in range(2)]
    mixed, other = others
    for side in (node, mixed):
        template = {"name": "echo", "data": {"n": 1}, "opts": opts}
        await side.queue("upsertJobScheduler", name, theirs, template)
    for queue_name in (our_twin.queue_name, other.queue_name):
        async with OurSide(queue_name, server_url).queue() as queue:
            await queue.upsert_scheduler(name, ours, name="echo", data={"n": 1}, options=opts)
    sides = [node.queue_name, mixed.queue_name, our_twin.queue_name, other.queue_name]
    twin = NodeSide(node.driver, our_twin.queue_name, node.version)
    our_mixed = OurSide(mixed.queue_name, server_url)

    await node.start_worker(name="same")
    await other.start_worker(name="same")
    async with our_mixed.worker(name="same"), our_twin.worker(name="same"):
        await asyncio.gather(*(until_completed(server_url, each, count) for each in sides))
        # Only the worker's next look removes the counter `pc`.
        await asyncio.gather(*(side.until_idle() for side in (node, mixed, twin, other)))
    await node.stop_workers()
    await other.stop_workers()

    for each in sides[1:]:
        assert_same(server_url, each, node.queue_name, ran=True)
    for side in others:
        await side.call("leave")


TEMPLATES: list[dict[str, Any]] = [
    *[{flag: True} for flag in FAILURE_FLAGS.values()],
    {"failParentOnFailure": False},
    {"attempts": 2, "backoff": 10, "lifo": True},
    {"backoff": {"type": "exponential", "delay": 10, "jitter": 0.5}, "stackTraceLimit": 2},
    {"telemetry": {"metadata": '{"a":1}', "omitContext": True}, "sizeLimit": 1000, "keepLogs": 2},
    {"removeOnComplete": {"age": 60, "count": 50}, "removeOnFail": True},
    {"parent": {"id": "1", "queue": "bull:nobody"}, "timestamp": 5},
    {"deduplication": {"id": "größe"}},
    {"mine": {"a": [1], "b": None}},
]


async def test_every_template_goes_on_the_same(
    node: NodeSide, our_twin: OurSide, twin: NodeSide, server_url: str
) -> None:
    """What the second job of a scheduler is told is written by the worker that ran the first."""
    if node.version.startswith("5"):
        pytest.skip("version 5 takes deduplication and the names of the next job in another way")
    for side in (node, twin):
        for number, opts in enumerate(TEMPLATES):
            template = {"name": "echo", "data": number, "opts": opts}
            await side.queue("upsertJobScheduler", f"s{number}", {"every": 3_600_000}, template)

    await node.start_worker(name="same")
    async with our_twin.worker(name="same"):
        for side in (node, twin):
            await until_completed(server_url, side.queue_name, len(TEMPLATES))
            await side.until_idle()
    await node.stop_workers()

    ours, theirs = (schedule_dump(server_url, side.queue_name) for side in (twin, node))
    for found in (ours, theirs):
        # Ours claims the next job while one runs; next times differ by milliseconds.
        for name in ("events", "completed", "delayed", "repeat"):
            found[name].sort(key=str)
    assert differences(ours, theirs) == []


async def test_an_end_date_ends_both_chains(
    node: NodeSide, our_twin: OurSide, server_url: str
) -> None:
    """After the end date neither side may make another job."""
    async with our_twin.queue() as queue, our_twin.worker(name="same"):
        await node.start_worker(name="same")
        # At most two jobs, on whole seconds; a worker that is late misses the first of them.
        first = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=2)
        start, end = first - dt.timedelta(seconds=0.5), first + dt.timedelta(seconds=1.5)
        dates = {"startDate": ms(start), "endDate": ms(end)}
        theirs = {"pattern": "* * * * * *", "tz": "UTC", **dates}
        ours = Repeat(cron="* * * * * *", tz="UTC", start_date=start, end_date=end)
        await node.queue("upsertJobScheduler", "s", theirs, {"name": "echo"})
        await queue.upsert_scheduler("s", ours, name="echo")
        await wait_until_async(_later_than(end + dt.timedelta(seconds=0.8)))
        for name in (node.queue_name, our_twin.queue_name):
            await until_completed(server_url, name, 1)
        await node.stop_workers()

        found = await queue.counts()
        last = await queue.get_scheduler("s")

    theirs_counts = await node.queue("getJobCounts", "completed", "delayed")
    for counts in (found, theirs_counts):
        assert 1 <= counts["completed"] <= 2
        assert counts["delayed"] == 0
    assert last is not None
    assert last.next_ms <= ms(end)


def _later_than(date: dt.datetime) -> Any:
    async def is_later() -> bool:
        return time.time() > date.timestamp()

    return is_later


async def test_hashed_patterns_agree(node: NodeSide, ours: OurSide) -> None:
    """`H` is drawn anew by each Node process; with the seed in the job all draw the same."""
    if node.version.startswith("5"):
        pytest.skip("version 5 reads no H")
    async with ours.queue() as queue:
        job = await queue.upsert_scheduler(
            "spread", Repeat(cron="H H H * * *", tz="UTC", immediately=True), name="echo"
        )
        planned = Repeat(cron="H H H * * *", tz="UTC").next_ms(job.timestamp_ms, seed="spread")
        await node.start_worker()
        await node.finished(job.id)
        scheduler = await queue.get_scheduler("spread")

    assert scheduler is not None
    assert scheduler.next_ms == planned
