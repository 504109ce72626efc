"""sandboxq adds, Node runs: Node's worker must find what its own Queue would have written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.errors import JobFailed
from sandboxq.model.backoff import Backoff
from sandboxq.model.job import Keep
from tests.interop.test_node_adds import PAYLOADS

if TYPE_CHECKING:
    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide

RESULT_SECONDS = 15.0

OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "delay": {"delay": 0.04},
    "priority": {"priority": 7},
    "delay and priority": {"delay": 0.04, "priority": 2},
    "lifo": {"lifo": True},
    "fixed backoff": {"attempts": 3, "backoff": Backoff.fixed(0.01)},
    "exponential backoff": {"attempts": 3, "backoff": Backoff.exponential(0.01, jitter=0.5)},
    "own id": {"job_id": "größe-1"},
    "keep count": {"remove_on_complete": Keep(count=1000), "remove_on_fail": 1000},
    "keep age": {"remove_on_complete": Keep(count=1000, age=3600.0)},
    "timeout": {"timeout": 30},
}


async def test_values_come_back_as_python_sent_them(node: NodeSide, ours: OurSide) -> None:
    """`Job.result` in Python is how a Python producer uses a Node worker."""
    await node.start_worker()

    async with ours.queue() as queue:
        jobs = [await queue.add("echo", payload) for payload in PAYLOADS]
        values = [await job.result(timeout=RESULT_SECONDS) for job in jobs]

    assert values == PAYLOADS
    assert [(await node.job(job.id))["data"] for job in jobs] == PAYLOADS


async def test_node_runs_every_kind_of_options(node: NodeSide, ours: OurSide) -> None:
    """Options that Node reads otherwise than we meant them fail far away from their cause."""
    await node.start_worker()

    async with ours.queue() as queue:
        for name, opts in OPTIONS.items():
            job = await queue.add("echo", name, **opts)
            assert await job.result(timeout=RESULT_SECONDS) == name


async def test_a_batch_runs_in_order(node: NodeSide, ours: OurSide) -> None:
    """`add_bulk` writes in chunks; their jobs must still be FIFO, and all there."""
    wanted = [f"job {number}" for number in range(250)]

    async with ours.queue() as queue:
        await queue.pause()
        jobs = await queue.add_bulk([("echo", text, {}) for text in wanted])
        await node.start_events()
        await node.start_worker()
        await queue.resume()
        assert await jobs[-1].result(timeout=RESULT_SECONDS) == wanted[-1]

    assert [job.id for job in jobs] == await node.runs()
    done = [event["returnvalue"] for event in await node.events("completed")]
    assert done == wanted[: len(done)]


async def test_node_runs_our_jobs_in_our_order(node: NodeSide, ours: OurSide) -> None:
    """Priorities and LIFO are in the scores and the list ends that our add chose."""
    order: list[tuple[str, dict[str, Any]]] = [("first", {}), ("second", {})]
    order += [("last in", {"lifo": True}), ("low", {"priority": 9})]
    order += [("high", {"priority": 1}), ("high again", {"priority": 1})]
    async with ours.queue() as queue:
        await queue.pause()
        for name, opts in order:
            await queue.add("echo", name, job_id=name, **opts)
        await node.start_worker()
        await queue.resume()
        await node.finished("low")

    assert await node.runs() == ["last in", "first", "second", "high", "high again", "low"]


async def test_a_failure_in_node_is_an_exception_in_python(node: NodeSide, ours: OurSide) -> None:
    """A Python caller must not mistake a failed job for one that returned None."""
    await node.start_worker()
    data = {"times": 9, "message": "zu groß"}

    async with ours.queue() as queue:
        failing = await queue.add("fail", data, attempts=2, backoff=Backoff.fixed(0.005))
        with pytest.raises(JobFailed, match="zu groß"):
            await failing.result(timeout=RESULT_SECONDS)
        recovering = await queue.add("fail", {**data, "times": 2}, attempts=3)
        assert await recovering.result(timeout=RESULT_SECONDS) == "recovered"
        seen = await queue.get_job(failing.id)

    assert seen is not None
    assert (seen.failed_reason, seen.attempts_made) == ("zu groß", 2)
    assert len(seen.stacktrace) == 2
    assert "processor.mjs" in seen.stacktrace[0]


async def test_python_reads_what_a_node_processor_reports(node: NodeSide, ours: OurSide) -> None:
    """Progress, logs and new data are one picture of the job, whoever wrote it."""
    await node.start_worker(name="nodeling")

    async with ours.queue() as queue:
        job = await queue.add("report", {"src": "ä.jpg"})
        assert await job.result(timeout=RESULT_SECONDS) == "reported"
        seen = await queue.get_job(job.id)

    assert seen is not None
    assert seen.progress == {"step": 2, "of": "größer"}
    assert seen.data == {"src": "ä.jpg", "seen": True}
    assert (seen.returnvalue, seen.processed_by) == ("reported", "nodeling")


async def test_a_second_add_with_the_same_id_adds_nothing(node: NodeSide, ours: OurSide) -> None:
    """Producers use ids to make adding idempotent, also across languages."""
    await node.start_events()
    await node.add("echo", "from Node", {"jobId": "same"})

    async with ours.queue() as queue:
        again = await queue.add("echo", "from Python", job_id="same")
        await node.start_worker()
        assert await again.result(timeout=RESULT_SECONDS) == "from Node"

    assert await node.runs() == ["same"]
    assert [event["jobId"] for event in await node.events("duplicated")] == ["same"]
