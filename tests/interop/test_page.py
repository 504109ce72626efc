"""The page of a job that Node's worker runs: what is not known is said, its log is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.conftest import Gate
from tests.interop.conftest import NEWEST_ONLY
from tests.web.live_page import served

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide

pytestmark = NEWEST_ONLY


async def test_what_node_runs_is_unknown(node: NodeSide, ours: OurSide, tmp_path: Path) -> None:
    """No process, no stack; Kill and Tell say that they reach nobody; the rest is there."""
    gate = Gate(tmp_path)
    await node.start_worker()
    job_id = await node.add("wait-for-file", {"path": gate.path})
    async with served(ours.url, queues=[ours.queue_name]) as page:
        topic = f"job:{ours.queue_name}:{job_id}"
        event = await page.until(topic, lambda it: it.data["unknown"])
        assert "Node.js" in event.data["unknown"]
        assert (event.data["job"], event.data["last_stack"]) == (None, None)
        assert event.data["log"]["lines"] == ["waits"]
        path = f"/queues/{ours.queue_name}/jobs/{job_id}"
        assert "no worker answered" in (await page.act(f"{path}/kill"))["message"]
        told = await page.act(f"{path}/tell", message="hello")
        assert "no worker of sandboxq has job" in told["message"]
        workers = await page.read("/workers")
        (queue,) = workers["queues"]
        assert (queue["workers"], queue["others"], queue["active"]) == (0, 1, 1)
        gate.open()
        await page.until(topic, lambda it: it.data["state"] == "completed")
    await node.stop_workers()
