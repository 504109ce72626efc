"""The page of a cluster: workers, stream and one job are live; Tell and Kill reach the job."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxq import Queue, Worker
from tests.conftest import run_async, wait_until_async
from tests.web.live_page import served

if TYPE_CHECKING:
    from tests.cluster.servers import Cluster

PREFIX = "{bull}"
PROCESSOR = str(Path(__file__).parents[1] / "processors_for_tests.py")


def test_what_is_live_on_a_cluster(small_cluster: Cluster, queue_name: str) -> None:
    """Of a cluster nobody learns how many listen; what is published reaches them all the same."""
    url = small_cluster.url

    async def main() -> None:
        async with (
            Queue(queue_name, url=url, prefix=PREFIX) as queue,
            Worker(queue_name, PROCESSOR, url=url, prefix=PREFIX, procs=1) as worker,
            served(url, prefix=PREFIX, queues=[queue_name]) as page,
        ):
            running = asyncio.create_task(worker.run())
            path = f"/queues/{queue_name}/jobs"
            tells = await queue.add("tells", {"do": "until-told"})
            await page.until("workers", lambda it: it.data["summary"]["jobs"] == 1)
            topic = f"job:{queue_name}:{tells.id}"
            await page.until(topic, lambda it: "_until_told" in (it.data["job"] or {})["stack"])

            async def is_read() -> bool:
                told = await page.act(f"{path}/{tells.id}/tell", message="go on")
                return "has read it" in told["message"]

            await wait_until_async(is_read)
            assert await tells.result(timeout=60) == ["go on"]
            stays = await queue.add("stays", {"do": "stay", "seconds": 600})
            await page.until("stream", lambda it: [each[2] for each in it.data["running"]])
            killed = await page.act(f"{path}/{stays.id}/kill", grace=0)
            assert "was killed" in killed["message"]
            worker.stop()
            await running

    run_async(main())
