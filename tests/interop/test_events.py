"""Node's QueueEvents hears of our work what it hears of Node's."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

from tests.conftest import wait_until_async
from tests.interop.dump import OWN_PREFIX

if TYPE_CHECKING:
    import subprocess

    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide


async def until_started(node: NodeSide, process: subprocess.Popen[bytes]) -> None:
    """Wait until the worker in this process has claimed the queue's only job."""

    async def has_started() -> bool:
        assert process.poll() is None, "the worker ended"
        return bool(await node.events("active"))

    await wait_until_async(has_started)


async def heard_of(node: NodeSide, job_id: str, last: str) -> list[dict[str, Any]]:
    """Return the events of one job, without its id and our own fields, up to ``last``."""
    events = await node.events_until(job_id, last)
    return [
        {name: text for name, text in event.items() if name != "jobId" and name[:3] != OWN_PREFIX}
        for event in events
    ]


async def test_a_job_that_completes(node: NodeSide, ours: OurSide) -> None:
    """These five are what a page in Node shows of a job's life."""
    await node.start_events()

    async with ours.worker(), ours.queue() as queue:
        job = await queue.add("report", {})
        heard = await heard_of(node, job.id, "completed")

    assert heard == [
        {"event": "added", "name": "report"},
        {"event": "waiting"},
        {"event": "active", "prev": "waiting"},
        {"event": "progress", "data": 25},
        {"event": "progress", "data": {"step": 2, "of": "größer"}},
        {"event": "completed", "returnvalue": "reported", "prev": "active"},
    ]


async def test_a_delayed_job_that_fails(node: NodeSide, ours: OurSide) -> None:
    """Listeners tell a retry from the end by `waiting`/`delayed` against `failed`."""
    await node.start_events()
    data = {"times": 9, "message": "boom"}
    job_id = await node.add("fail", data, {"attempts": 2, "backoff": 30, "delay": 30})

    async with ours.worker():
        heard = await heard_of(node, job_id, "retries-exhausted")

    job = await node.job(job_id)
    delays = [event.pop("delay") for event in heard if event["event"] == "delayed"]
    assert delays[0] == job["timestamp"] + 30
    assert delays[0] < delays[1] <= job["finishedOn"]
    assert heard == [
        {"event": "added", "name": "fail"},
        {"event": "delayed"},
        {"event": "waiting", "prev": "delayed"},
        {"event": "active", "prev": "waiting"},
        {"event": "delayed"},
        {"event": "waiting", "prev": "delayed"},
        {"event": "active", "prev": "waiting"},
        {"event": "failed", "failedReason": "boom", "prev": "active"},
        {"event": "retries-exhausted", "attemptsMade": "2"},
    ]


async def test_a_retry_at_once(node: NodeSide, ours: OurSide) -> None:
    """Without backoff a job goes straight back; Node announces no failure then, nor may we."""
    await node.start_events()
    job_id = await node.add("fail", {"times": 1, "message": "boom"}, {"attempts": 2})

    async with ours.worker():
        heard = await heard_of(node, job_id, "completed")

    assert [(event["event"], event.get("prev")) for event in heard] == [
        ("added", None),
        ("waiting", None),
        ("active", "waiting"),
        ("waiting", "active"),
        ("active", "waiting"),
        ("completed", "active"),
    ]


async def test_the_queue_is_drained(node: NodeSide, ours: OurSide) -> None:
    """Scripts in Node end when they hear `drained`; it must come, and after the last job."""
    await node.start_events()
    await node.queue("addBulk", [{"name": "echo", "data": number} for number in range(20)])

    async with ours.worker():

        async def has_drained() -> list[dict[str, Any]]:
            return await node.events("drained")

        await wait_until_async(has_drained)

    names = [event["event"] for event in await node.events("completed", "drained")]
    assert names.index("drained") == 20
    assert not await node.events("error")


async def test_a_killed_worker_s_job_stalls_and_is_recovered(node: NodeSide, ours: OurSide) -> None:
    """A kill -9 of the worker costs a job a delay, not its life; Node sees why it took longer."""
    await node.start_events()
    job_id = await node.add("sleep", {"ms": 1500})
    with ours.worker_process("--lock-duration", "0.5", "--stalled-interval", "0.3") as process:
        await until_started(node, process)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait, 10)

    async with ours.worker(stalled_interval=0.3):
        heard = await heard_of(node, job_id, "completed")

    assert [(event["event"], event.get("prev")) for event in heard] == [
        ("added", None),
        ("waiting", None),
        ("active", "waiting"),
        ("waiting", "active"),
        ("stalled", None),
        ("active", "waiting"),
        ("completed", "active"),
    ]
    job = await node.job(job_id)
    assert (job["attemptsMade"], job["attemptsStarted"], job["stalledCounter"]) == (1, 2, 1)


async def test_node_recovers_a_job_of_our_killed_worker(node: NodeSide, ours: OurSide) -> None:
    """A mixed fleet looks after each other's jobs."""
    await node.start_events()
    job_id = await node.add("sleep", {"ms": 1000})
    with ours.worker_process("--lock-duration", "0.5", "--stalled-interval", "0.3") as process:
        await until_started(node, process)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait, 10)

    await node.start_worker(stalledInterval=300)
    await heard_of(node, job_id, "stalled")

    assert await node.finished(job_id) == {"value": "slept"}
    assert await node.runs() == [job_id]


async def test_we_recover_a_job_that_node_left(node: NodeSide, ours: OurSide) -> None:
    """The other way round: Node's worker died with the job in its hands."""
    await node.start_events()
    job_id = await node.add("echo", "left behind")
    assert await node.call("claim", holder="dead", lockDuration=200) == job_id

    async with ours.worker(stalled_interval=0.3):
        assert await node.finished(job_id) == {"value": "left behind"}

    assert [event["jobId"] for event in await node.events("stalled")] == [job_id]


async def test_a_job_that_stalls_too_often_fails(node: NodeSide, ours: OurSide) -> None:
    """A job that kills every worker must not go round for ever; Node's text says what it was."""
    await node.start_events()
    job_id = await node.add("echo", 1, {"attempts": 5})
    await node.call("claim", holder="dead", lockDuration=100)

    async with ours.worker(stalled_interval=0.2, max_stalled_count=0):
        reason = "job stalled more than allowable limit"
        assert await node.finished(job_id) == {"failedReason": reason}

    job = await node.job(job_id)
    assert (job["state"], job["stalledCounter"], job["attemptsMade"]) == ("failed", 1, 1)
