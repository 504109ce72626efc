"""What was once found to differ from Node, and what was missing, now done by both and compared."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sandboxq import FlowProducer, Repeat, Worker
from sandboxq.errors import UsageError
from tests.conftest import wait_until_async
from tests.interop.conftest import NEWEST_ONLY
from tests.interop.node_driver import NodeError
from tests.interop.test_schedulers import assert_same

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.worker.manual_job import HeldJob
    from tests.interop.node_driver import NodeSide
    from tests.interop.pair import Pair

pytestmark = NEWEST_ONLY

HOUR_MS = 3_600_000


async def test_pages_of_lists_with_holes(pair: Pair) -> None:
    """An id whose job is gone, and a marker of old, take no place of a page."""
    options: list[dict[str, Any]] = [{}, {}, {"lifo": True}, {"priority": 5}, {"priority": 3}]
    for each in [*options, {"delay": HOUR_MS}, {"delay": 2 * HOUR_MS}]:
        await pair.add_to_both("echo", 1, each)
    with redis.Redis.from_url(pair.url) as client:
        for side in pair.sides():
            client.rpush(f"bull:{side.queue_name}:wait", "ghost", "2", "ghost too")
            client.lpush(f"bull:{side.queue_name}:wait", "0:500")
            client.delete(f"bull:{side.queue_name}:4")

    async with pair.ours.queue() as queue:
        for states in (["waiting"], ["prioritized"], ["delayed"], ["waiting", "delayed"]):
            for place in ((0, -1), (0, 0), (1, 2), (0, 2), (-2, -1), (2, 1), (5, 9), (0, -2)):
                for ascending in (True, False):
                    theirs = await pair.node.queue("getJobs", states, *place, ascending)
                    ours = await queue.get_jobs(states, *place, ascending=ascending)
                    where = (states, place, ascending)
                    assert [job.id for job in ours] == [job["id"] for job in theirs], where
        for job_id in ("1", "ghost", "99", "0:500"):
            state = await pair.node.queue("getJobState", job_id)
            assert await queue.job_state(job_id) == state


async def test_nodes_of_a_flow_without_data(pair: Pair) -> None:
    """A processor in JavaScript reads fields of what it is given."""
    name = "<queue>"
    tree: dict[str, Any] = {"name": "root", "queueName": name, "opts": {"jobId": "root"}}
    child = {"name": "child", "queueName": name, "opts": {"jobId": "child"}}
    ours: Any = {"name": "root", "queue": name, "opts": {"job_id": "root"}}
    our_child = {"name": "child", "queue": name, "opts": {"job_id": "child"}}

    await pair.node.call("flow", tree=_in(pair.node, {**tree, "children": [child]}))
    async with FlowProducer(pair.url) as producer:
        await producer.add_bulk([_in(pair.twin, {**ours, "children": [our_child]})])

    assert pair.differences() == []


def _in(side: NodeSide, tree: dict[str, Any]) -> Any:
    """Return a tree with the queue's name put in."""
    place = "queueName" if "queueName" in tree else "queue"
    children = [_in(side, child) for child in tree.get("children", [])]
    return {**tree, place: side.queue_name, **({"children": children} if children else {})}


async def test_hashed_patterns_are_taken(pair: Pair) -> None:
    """What H becomes is drawn; a pattern that may come right is taken, as by Node."""
    async with pair.ours.queue() as queue:
        for pattern in ("30,*/24,H/15 * * * * *", "H H * * *", "H(0-10)/5 * * * * *"):
            await wait_until_async(partial(_takes, pair.node, pattern))
            await queue.upsert_scheduler("s", Repeat(cron=pattern, tz="UTC"))
            scheduler = await queue.get_scheduler("s")
            assert scheduler is not None
            assert scheduler.cron == (await pair.node.queue("getJobScheduler", "s"))["pattern"]


async def _takes(node: NodeSide, pattern: str) -> bool:
    """Whether Node takes a pattern this time: two of its seconds may be drawn alike."""
    try:
        await node.queue("upsertJobScheduler", "s", {"pattern": pattern, "tz": "UTC"})
    except NodeError:
        return False
    return True


async def test_jobs_that_fail_without_a_run(pair: Pair) -> None:
    """Stalled too often: counted, told and kept as there, with a trace."""
    ids = [
        await pair.add_to_both("echo", 1, each)
        for each in ({}, {"priority": 2}, {"lifo": True}, {"attempts": 3}, {"removeOnFail": True})
    ]
    for side in pair.sides():
        for _ in ids:
            await side.call("claim", holder="dead", lockDuration=1)
    settings = {"stalled_interval": 0.3, "max_stalled_count": 0}

    await pair.node.start_worker(name="same", stalledInterval=300, maxStalledCount=0)
    async with pair.ours.worker(name="same", **settings):
        await pair.until_ended(ids)
    await pair.node.stop_workers()

    assert pair.differences(ran=True) == []


async def test_bounded_events(pair: Pair) -> None:
    """How many events a queue keeps is one number, whoever says it."""
    await pair.node.call("openQueue", options={"streams": {"events": {"maxLen": 10}}})
    async with pair.ours.queue() as queue:
        await queue.set_max_events(10)
        for number in range(200):
            await pair.node.add("echo", number)
            await queue.add("echo", number)

    assert pair.differences() == []
    # Cut to whole blocks of a hundred.
    with redis.Redis.from_url(pair.url) as client:
        assert int(client.xlen(f"bull:{pair.twin.queue_name}:events")) < 200


@pytest.mark.parametrize("times", [{"every": 60_000}, {"pattern": "0 0 3 * * *", "tz": "UTC"}])
async def test_counts_that_go_on(pair: Pair, times: dict[str, Any]) -> None:
    """A scheduler that moves from one queue to another has made some of its jobs already."""
    ours: Any = {"every": 60} if "every" in times else {"cron": times["pattern"], "tz": "UTC"}
    async with pair.ours.queue() as queue:
        for count in (0, 1, 2):
            theirs = {**times, "limit": 3, "count": count}
            await pair.node.queue("upsertJobScheduler", f"s{count}", theirs, {"name": "echo"})
            repeat = Repeat(**ours, limit=3, count=count)
            await queue.upsert_scheduler(f"s{count}", repeat, name="echo")

    assert_same(pair.url, pair.twin.queue_name, pair.node.queue_name)


async def test_ids_of_three_parts(pair: Pair) -> None:
    """And those that neither takes."""
    async with pair.ours.queue() as queue:
        for job_id in ("a:b:c", "größe:b:🙂", "a b:c\n:d"):
            await pair.node.add("echo", 1, {"jobId": job_id})
            await queue.add("echo", 1, job_id=job_id)
        assert pair.differences() == []
        for job_id in ("0", "17", "-3", "0:1", "0:1:2", "a:b", "a:b:c:d"):
            with pytest.raises(NodeError):
                await pair.node.add("echo", 1, {"jobId": job_id})
            with pytest.raises(UsageError):
                await queue.add("echo", 1, job_id=job_id)


async def test_what_a_job_knows_of_itself(pair: Pair) -> None:
    """Prefix and queue, when it began, who made it, and why it failed before."""
    ids = [await pair.add_to_both("tell", {}, {"attempts": 2})]
    ids.append(await pair.add_to_both("tell", {}, {"deduplication": {"id": "größe"}}))
    for side in pair.sides():
        await side.queue("upsertJobScheduler", "s", {"every": HOUR_MS}, {"name": "tell"})

    told = []
    async with pair.workers():
        for side in pair.sides():
            await wait_until_async(partial(_has_completed, side, len(ids) + 1))
            jobs = await side.queue("getJobs", ["completed"])
            values = [job["returnvalue"] for job in jobs]
            text = json.dumps(sorted(values, key=str)).replace(side.queue_name, "<queue>")
            told.append(json.loads(text))

    assert len(told[0]) == 3
    assert told[0] == told[1]


async def _has_completed(side: NodeSide, count: int) -> bool:
    found: int = await side.queue("getCompletedCount")
    return found == count


# ── by hand ─────────────────────────────────────────────────────────────────

HOLDER = "holder"
Move = tuple[str, list[Any], "Callable[[HeldJob], Awaitable[Any]]"]
VALUES: list[Any] = [1, None, "ü", {"a": []}, [], 0, False, ""]


def completes(value: Any) -> Move:
    """Return a completion in Node's words and ours."""
    args = [value, HOLDER, False]
    return "moveToCompleted", args, lambda job: job.move_to_completed(value)


def fails() -> Move:
    """Return a failure in Node's words and ours."""
    return "fail", [], lambda job: job.move_to_failed("zu groß")


MOVES: list[tuple[dict[str, Any], Move]] = [
    *[({}, completes(value)) for value in VALUES],
    ({"removeOnComplete": True}, completes(1)),
    ({"removeOnComplete": 2}, completes(1)),
    *[
        (opts, fails())
        for opts in (
            *({}, {"attempts": 3, "lifo": True, "backoff": HOUR_MS}, {"removeOnFail": True}),
            {"attempts": 2, "priority": 3, "backoff": {"type": "exponential", "delay": HOUR_MS}},
        )
    ],
    ({}, ("moveToWaitingChildren", [HOLDER, {}], lambda job: job.move_to_waiting_children())),
]


async def test_moves_by_hand(pair: Pair) -> None:
    """Each job is claimed and moved by the program itself."""
    async with Worker(pair.twin.queue_name, url=pair.url, metrics_points=0) as worker:
        for opts, (method, args, move) in MOVES:
            await pair.add_to_both("echo", 1, opts)
            job_id = await pair.node.call("claim", holder=HOLDER, lockDuration=60_000)
            await _move(pair.node, job_id, method, args)
            job = await worker.get_next_job(HOLDER)
            assert job is not None
            await move(job)
            assert pair.differences() == [], (opts, method)


async def _move(node: NodeSide, job_id: str, method: str, args: list[Any]) -> None:
    if method == "fail":
        await node.call("heldFail", id=job_id, reason="zu groß", holder=HOLDER)
    else:
        await node.call("heldMethod", id=job_id, method=method, args=args)


async def test_what_is_told_of_a_job_by_hand(pair: Pair) -> None:
    """Progress, log, data, lock and the next job with the end of this one."""
    for number in range(2):
        await pair.add_to_both("echo", number, {"keepLogs": 2})
    async with Worker(pair.twin.queue_name, url=pair.url, metrics_points=0) as worker:
        job_id = await pair.node.call("claim", holder=HOLDER, lockDuration=60_000)
        job = await worker.get_next_job(HOLDER)
        assert job is not None

        async def tell(method: str, *args: Any) -> None:
            await pair.node.call("heldMethod", id=job_id, method=method, args=args)

        for value in VALUES:
            await tell("updateProgress", value)
            await job.update_progress(value)
        for line in ("a", "größer", ""):
            await tell("log", line)
            await job.log(line)
        await tell("updateData", {"x": None})
        await job.update_data({"x": None})
        assert pair.differences() == []

        await tell("moveToCompleted", "done", HOLDER, True)  # noqa: FBT003 - Node's signature
        following = await job.move_to_completed("done", fetch_next=True)
        assert following is not None
        assert following.id == "2"
    assert pair.differences() == []


async def test_a_parent_by_hand(pair: Pair) -> None:
    """It waits for a child that it was given meanwhile, and then is no longer held."""
    await pair.add_to_both("parent", 1, {"priority": 2})
    async with Worker(pair.twin.queue_name, url=pair.url, metrics_points=0) as worker:
        parent = await pair.node.call("claim", holder=HOLDER, lockDuration=60_000)
        job = await worker.get_next_job(HOLDER)
        assert job is not None
        for side in pair.sides():
            link = {"id": parent, "queue": f"bull:{side.queue_name}"}
            await pair.children(side).add("echo", 1, {"parent": link, "jobId": "child"})

        args = [HOLDER, {}]
        theirs = await pair.node.call(
            "heldMethod", id=parent, method="moveToWaitingChildren", args=args
        )
        assert await job.move_to_waiting_children() is theirs is True

    assert pair.differences("", "-c") == []


async def test_metrics_by_both(pair: Pair) -> None:
    """The minutes that a dashboard draws."""
    ids = [await pair.add_to_both("echo", 1) for _ in range(3)]
    ids.append(await pair.add_to_both("fail", {"times": 9, "message": "m"}, {"attempts": 2}))

    await pair.node.start_worker(name="same", metrics={"maxDataPoints": 5})
    async with pair.ours.worker(name="same", metrics_points=5):
        await pair.until_ended(ids)
    await pair.node.stop_workers()

    assert pair.differences(ran=True) == []
