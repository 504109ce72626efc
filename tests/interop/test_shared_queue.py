"""Node's worker and ours on one queue at once: each job once, and pauses stop both."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.conftest import wait_until_async
from tests.interop.test_events import until_started

if TYPE_CHECKING:
    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide

JOBS = 400


async def until_finished(node: NodeSide, count: int) -> None:
    """Wait until this many jobs completed and none waits."""

    async def are_done() -> bool:
        counts = await node.queue("getJobCounts", "completed", "wait", "active", "prioritized")
        return bool(counts["completed"] == count and sum(counts.values()) == count)

    await wait_until_async(are_done)


async def test_each_job_runs_exactly_once(node: NodeSide, ours: OurSide) -> None:
    """Two implementations of one locking protocol on one queue: the claim this project makes."""
    await node.start_events()
    await node.queue("pause")
    await node.start_worker(name="node", concurrency=4)
    async with ours.worker(name="ours", procs=2), ours.queue() as queue:
        half = [{"name": "sleep", "data": {"ms": 2}} for _ in range(JOBS // 2)]
        await node.queue("addBulk", half)
        await queue.add_bulk([("sleep", {"ms": 2}, {}) for _ in range(JOBS // 2)])
        await node.until_idle(workers=2)
        await node.queue("resume")
        await until_finished(node, JOBS)

    jobs = await node.queue("getJobs", ["completed"])
    assert {job["attemptsStarted"] for job in jobs} == {1}
    assert {job["returnvalue"] for job in jobs} == {"slept"}
    for name in ("active", "completed"):
        heard = Counter(event["jobId"] for event in await node.events(name))
        assert (len(heard), set(heard.values())) == (JOBS, {1}), name
    share = Counter(job["processedBy"] for job in jobs)
    assert share.keys() == {"node", "ours"}
    runs = await node.runs()
    assert len(runs) == len(set(runs)) == share["node"]


async def test_failures_are_retried_on_either_side(node: NodeSide, ours: OurSide) -> None:
    """An attempt that fails here may be followed by one over there; the count must go on."""
    data = {"times": 3, "message": "again"}
    await node.start_worker(concurrency=2)
    async with ours.worker(procs=2):
        opts = {"attempts": 4, "backoff": {"type": "exponential", "delay": 5}}
        await node.queue("addBulk", [{"name": "fail", "data": data, "opts": opts}] * 40)
        await until_finished(node, 40)

    jobs = await node.queue("getJobs", ["completed"])
    assert {(job["attemptsMade"], job["attemptsStarted"]) for job in jobs} == {(4, 4)}
    assert {len(job["stacktrace"]) for job in jobs} == {3}


async def test_node_runs_what_we_hand_back(node: NodeSide, ours: OurSide) -> None:
    """A worker that is shut down gives its job to the fleet, and takes no attempt for it."""
    await node.start_events()
    job_id = await node.add("sleep", {"ms": 1000}, {"attempts": 1})
    with ours.worker_process("--shutdown-timeout", "0.1") as process:
        await until_started(node, process)
        process.terminate()
        assert await asyncio.to_thread(process.wait, 10) == 0

    await node.start_worker(name="node")
    assert await node.finished(job_id) == {"value": "slept"}
    job = await node.job(job_id)
    assert (job["attemptsMade"], job["processedBy"]) == (1, "node")
    assert job["attemptsStarted"] in (1, 2)  # 1 when it went back before it had begun
    told = [(event["event"], event.get("prev")) for event in await node.events("waiting")]
    assert told == [("waiting", None), ("waiting", "active")]
    assert not await node.events("stalled", "failed")


async def test_node_pauses_and_we_obey(node: NodeSide, ours: OurSide) -> None:
    """A pause is how operators stop a fleet; one worker that goes on spoils it."""
    await node.start_events()
    await node.queue("pause")
    ids = [await node.add("echo", 1), await node.add("echo", 2, {"priority": 3})]

    async with ours.worker(), ours.queue() as queue:
        await node.until_idle()
        ids.append((await queue.add("echo", 3)).id)
        assert await queue.is_paused()
        await node.queue("resume")
        for job_id in ids:
            assert "value" in await node.finished(job_id)

    assert_nothing_ran_while_paused(await node.events("paused", "resumed", "active"), len(ids))


async def test_we_pause_and_node_obeys(node: NodeSide, ours: OurSide) -> None:
    """`Queue.pause` in Python must stop Node's workers as Node's own does, and lose no job."""
    await node.start_events()
    async with ours.queue() as queue:
        before = await node.add("echo", 0)
        await queue.pause()
        assert await node.queue("isPaused") is True
        ids = [before, (await queue.add("echo", 1)).id, await node.add("echo", 2)]
        await node.start_worker()
        await node.until_idle()
        await queue.resume()
        assert await node.queue("isPaused") is False
        for job_id in ids:
            assert "value" in await node.finished(job_id)

    assert_nothing_ran_while_paused(await node.events("paused", "resumed", "active"), len(ids))


async def test_no_job_is_lost_when_both_pause_and_add(node: NodeSide, ours: OurSide) -> None:
    """Version 5 renames lists when it pauses and resumes: what we put there must survive."""
    async with ours.queue() as queue:
        ids = [await node.add("echo", 0)]
        await node.queue("pause")
        ids += [(await queue.add("echo", 1)).id, await node.add("echo", 2)]
        await queue.pause()
        ids += [(await queue.add("echo", 3)).id, await node.add("echo", 4)]
        await node.queue("resume")
        ids += [(await queue.add("echo", 5)).id]
        await queue.resume()

        async with ours.worker():
            for job_id in ids:
                assert "value" in await node.finished(job_id)


def assert_nothing_ran_while_paused(events: list[dict[str, Any]], count: int) -> None:
    """Check the order of events: every `active` comes after `resumed`."""
    assert [event["event"] for event in events] == ["paused", "resumed", *["active"] * count]
