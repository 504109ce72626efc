"""The page on a queue that Node fills and runs: fewer facts, and it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.web.context import Dashboard
from sandboxq.web.reads.failures import read_failures
from sandboxq.web.reads.job import read_job
from sandboxq.web.reads.latency import read_latency
from sandboxq.web.reads.overview import read_overview
from sandboxq.web.reads.queue import read_jobs, read_queue
from sandboxq.web.settings import settings_from_options

if TYPE_CHECKING:
    from tests.interop.node_driver import NodeSide


async def test_a_queue_that_node_runs(node: NodeSide, server_url: str) -> None:
    """States, errors, frames and workers are told; what only our workers know is None."""
    await node.start_events()
    await node.start_worker(name="same")
    good = await node.add("echo", {"password": "hunter22", "n": 1})
    bad = await node.add("fail", {"times": 9, "message": "row 17 is bad"})
    worse = await node.add("fail", {"times": 9, "message": "row 18 is bad"})
    for job_id in (good, bad, worse):
        await node.events_until(job_id, "completed", "failed")
    dashboard = Dashboard(settings_from_options(server_url, {"queues": [node.queue_name]}))
    try:
        (row,) = (await read_overview(dashboard))["queues"]
        assert (row["counts"]["completed"], row["counts"]["failed"]) == (1, 2)
        assert row["workers"] == 1
        queue = await read_queue(dashboard, node.queue_name)
        assert queue["runs_elsewhere"]
        job = await read_job(dashboard, node.queue_name, good)
        assert job["data"]["value"] == {"password": "•••", "n": 1}
        assert not job["is_ours"]
        assert job["usage"] is None
        assert job["job"]["run"] is not None
        failed = await read_job(dashboard, node.queue_name, bad)
        assert "row 17 is bad" in failed["attempts"][-1]["error"]
        (group,) = (await read_failures(dashboard, queue=node.queue_name))["groups"]
        assert (group["count"], group["pattern"]) == (2, "row # is bad")
        assert group["frame"] is not None
        assert ".mjs:" in group["frame"]
        found = await read_jobs(dashboard, node.queue_name, state="failed", search="error:17")
        assert [each["id"] for each in found["jobs"]] == [bad]
        (latency,) = (await read_latency(dashboard))["queues"]
        assert latency["run"] is not None
    finally:
        await dashboard.close()
