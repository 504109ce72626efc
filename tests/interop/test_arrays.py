"""Arrays beside jobs, seen from Node: JSON that it can read, and nothing that stays behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import redis

from sandboxq import Worker
from tests.conftest import wait_until_async
from tests.interop.test_dashboards import open_board

if TYPE_CHECKING:
    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide

PIXELS = np.arange(300_000, dtype=np.float32).reshape(300, 1000)
REFERENCE = {"sq:binary": "pixels", "bytes": 1_200_000, "dtype": "<f4", "shape": [300, 1000]}


def blobs(ours: OurSide) -> list[Any]:
    """Return the keys of all arrays on the server that belong to this queue."""
    client: Any = redis.Redis.from_url(ours.url)
    with client:
        return list(client.hkeys(f"bull::sandboxq:binaries:{ours.queue_name}"))


async def test_node_reads_references(node: NodeSide, ours: OurSide) -> None:
    """getJob, finished, QueueEvents and bull-board see small objects where arrays were."""
    await node.start_events()
    board = await open_board(node)
    async with ours.queue() as queue, ours.worker():
        job = await queue.add("double", {"pixels": PIXELS, "k": 3})
        assert ((await job.result(timeout=60))["pixels"] == PIXELS * 2).all()
    value = {"pixels": REFERENCE}
    assert await node.finished(job.id) == {"value": value}
    seen = await node.job(job.id)
    assert (seen["data"], seen["returnvalue"]) == ({"pixels": REFERENCE, "k": 3}, value)
    event = (await node.events_until(job.id, "completed"))[-1]
    assert event["returnvalue"] == value
    (shown,) = await board.jobs("completed")
    assert (shown["data"], shown["returnValue"]) == (seen["data"], value)


async def test_a_node_worker_runs_the_rest(node: NodeSide, ours: OurSide) -> None:
    """It gets the references, and what it returns is JSON like any other."""
    await node.start_worker()
    async with ours.queue() as queue:
        job = await queue.add("echo", {"pixels": PIXELS})
        assert await job.result(timeout=60) == {"pixels": REFERENCE}
    await node.stop_workers()


async def test_what_node_removes_is_swept(node: NodeSide, ours: OurSide) -> None:
    """Node knows nothing of the arrays; the next look of any of our workers removes them."""
    async with ours.queue() as queue:
        removed = await queue.add("echo", {"pixels": PIXELS})
        await queue.add("echo", {"pixels": PIXELS})
        assert len(blobs(ours)) == 2
        await node.queue("remove", removed.id)
        await node.queue("drain")
        other = await queue.add("echo", {"pixels": PIXELS}, delay=60)
        async with Worker(ours.queue_name, url=ours.url, stalled_interval=0.2):

            async def is_swept() -> bool:
                return len(blobs(ours)) == 1

            await wait_until_async(is_swept)
        assert (await other.array("pixels") == PIXELS).all()


async def test_a_buffer_of_node(node: NodeSide, ours: OurSide) -> None:
    """What JSON.stringify makes of a Buffer is bytes for `job.binary`."""
    async with ours.worker():
        job_id = await node.add("size", {"file": {"type": "Buffer", "data": [1, 2, 255]}})
        assert await node.finished(job_id) == {"value": [3, 255]}
