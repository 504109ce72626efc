"""Node and sandboxq on one queue of a Redis Cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.servers import Cluster
from tests.interop.node_driver import NodeSide
from tests.interop.our_side import OurSide
from tests.interop.test_shared_queue import until_finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.interop.node_driver import NodeDriver

JOBS = 100


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield a cluster of two masters."""
    with Cluster(tmp_path_factory.mktemp("cluster"), masters=2, replicas=0) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster_driver(
    new_driver: Callable[..., NodeDriver], cluster: Cluster, bullmq_version: str
) -> NodeDriver:
    """Return a Node process with this version of BullMQ over ioredis' Cluster."""
    return new_driver(bullmq_version, hosts=cluster.url.partition("://")[2])


@pytest.fixture
def queue_name(queue_name: str) -> str:
    """Return a name whose braces put all keys of the queue into one slot."""
    return f"{{{queue_name}}}"


@pytest.fixture
def node(cluster_driver: NodeDriver, queue_name: str, bullmq_version: str) -> Iterator[NodeSide]:
    """Return Node's side of this test's queue."""
    yield NodeSide(cluster_driver, queue_name, bullmq_version)
    cluster_driver.ask("leave", queue=queue_name).result(60)


@pytest.fixture
def ours(queue_name: str, cluster: Cluster) -> OurSide:
    """Return sandboxq's side of this test's queue."""
    return OurSide(queue_name, cluster.url)


async def test_both_sides_share_a_queue_of_a_cluster(node: NodeSide, ours: OurSide) -> None:
    """What either side adds, either side runs, once."""
    await node.queue("pause")
    await node.start_worker(name="node", concurrency=2)
    async with ours.worker(name="ours"), ours.queue() as queue:
        rows = [{"name": "sleep", "data": {"ms": 2}} for _ in range(JOBS // 2)]
        await node.queue("addBulk", rows)
        await queue.add_bulk([("sleep", {"ms": 2}, {}) for _ in range(JOBS // 2)])
        await node.until_idle(workers=2)
        await node.queue("resume")
        await until_finished(node, JOBS)

    jobs = await node.queue("getJobs", ["completed"])
    assert {job["attemptsStarted"] for job in jobs} == {1}
    assert {job["processedBy"] for job in jobs} == {"node", "ours"}


async def test_each_side_gets_the_others_result(node: NodeSide, ours: OurSide) -> None:
    """Events and results cross over on a cluster as on one server."""
    await node.start_events()
    async with ours.worker():
        job_id = await node.add("sleep", {"ms": 1})
        assert await node.finished(job_id) == {"value": "slept"}
    await node.start_worker()
    async with ours.queue() as queue:
        job = await queue.add("sleep", {"ms": 1})
        assert await job.result(60) == "slept"
