"""What a queue needs of a cluster, on two masters: one slot, tags, every node."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import FlowProducer, Queue, QueueEvents, Worker
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.connect.servers import slot_of_key
from sandboxq.errors import UsageError
from sandboxq.model.job import Parent
from sandboxq.queue.queue import queue_names
from tests.conftest import run_async, wait_until_async

if TYPE_CHECKING:
    from tests.cluster.servers import Cluster

PROCESSOR = Path(__file__).parents[1] / "processors_for_tests.py"


def test_a_queue_without_a_tag_is_refused(small_cluster: Cluster, queue_name: str) -> None:
    """Its keys would lie on all nodes; nothing is written, and the error says what to write."""

    async def main() -> None:
        url = small_cluster.url
        async with Queue(queue_name, url=url) as queue:
            with pytest.raises(UsageError, match=r"\{bull\}"):
                await queue.add("n", {})
        with pytest.raises(UsageError, match=r"\{bull\}"):
            await Worker(queue_name, str(PROCESSOR), url=url).start()
        with pytest.raises(UsageError, match=r"\{bull\}"):
            await QueueEvents(queue_name, url=url).__aenter__()

    run_async(main())
    for node in small_cluster.nodes:
        assert not node.ask("KEYS", f"*{queue_name}*")


def test_one_node_is_not_the_cluster(small_cluster: Cluster) -> None:
    """With redis:// half of the queues would be somewhere else."""
    with pytest.raises(UsageError, match=r"write redis\+cluster://"):
        run_async(Broker.connect(small_cluster.nodes[0].url))


def test_a_server_alone_is_not_a_cluster(server_url: str, tmp_path: Path) -> None:
    """And the other way round: what to write is said."""
    from tests.broker.servers import StoppableServer

    assert server_url
    with StoppableServer(tmp_path) as server, pytest.raises(UsageError, match="redis://"):
        run_async(Broker.connect(server.url.replace("redis:", "redis+cluster:")))


def test_flows_across_slots_are_refused_before_anything_is_written(
    small_cluster: Cluster, queue_name: str
) -> None:
    """No script can add to two nodes: a tree that is half there would wait for ever."""
    tree: Any = {"name": "p", "queue": queue_name, "children": []}
    tree["children"] = [{"name": "c", "queue": queue_name, "prefix": "{other}"}]

    async def main() -> None:
        async with FlowProducer(url=small_cluster.url, prefix="{bull}") as flows:
            with pytest.raises(UsageError, match="different slots"):
                await flows.add(**tree)
        name = f"{{{queue_name}}}"
        async with Queue(name, url=small_cluster.url) as queue:
            with pytest.raises(UsageError, match="different slots"):
                await queue.add("n", {}, parent=Parent("1", "{elsewhere}"))

    run_async(main())
    for node in small_cluster.nodes:
        assert not node.ask("KEYS", f"*{queue_name}*")


def test_queues_are_found_on_every_master(small_cluster: Cluster) -> None:
    """With tags in their names, queues of one prefix lie all over the cluster."""
    names = [f"{{spread-{i}}}" for i in range(8)]
    owners = {small_cluster.owner(name).port for name in names}

    async def main() -> list[str]:
        broker = await Broker.connect(small_cluster.url)
        for name in names:
            await Queue(name, broker=broker, prefix="all").add("n", {})
        found = await queue_names(broker, prefix="all")
        await broker.close()
        return found

    assert len(owners) == 2
    assert run_async(main()) == sorted(names)


def test_every_key_of_a_queue_is_in_one_slot(small_cluster: Cluster, queue_name: str) -> None:
    """A single key elsewhere would stop a script in the middle, on some day, on some cluster."""
    slot = slot_of_key("{bull}")
    run_async(_use(small_cluster.url, queue_name))

    for node in small_cluster.nodes:
        names = node.ask("KEYS", f"*{queue_name}*")
        assert all(slot_of_key(name) == slot for name in names)
    used = small_cluster.owner("{bull}")
    assert used.ask("KEYS", f"*{queue_name}*")
    assert not small_cluster.other_master(used).ask("KEYS", f"*{queue_name}*")


async def _use(url: str, name: str) -> None:
    """Add, run, follow, flow, schedule, cancel, clean: a bit of everything."""
    from sandboxq.queue.schedulers import Repeat

    async with (
        Queue(name, url=url, prefix="{bull}") as queue,
        FlowProducer(url=url, prefix="{bull}") as flows,
        QueueEvents(name, url=url, prefix="{bull}", last_id="0-0") as events,
        Worker(name, str(PROCESSOR), url=url, prefix="{bull}", procs=1, name="w") as worker,
    ):
        running = asyncio.create_task(worker.run())
        job = await queue.add("n", {"do": "echo", "value": 7})
        assert await job.result(60) == 7
        assert (await anext(aiter(events))).job_id == job.id

        async def is_known() -> bool:
            names = [row["rawname"] for row in await queue.get_workers()]
            return [name.rpartition(":")[2] for name in names] == ["w"]

        # It has its name once it waits for jobs.
        await wait_until_async(is_known)
        flow = await flows.add(
            name="p",
            queue=name,
            data={"do": "echo", "value": "parent"},
            children=[{"name": "c", "queue": f"{name}-below", "data": {}}],
        )
        assert await flow.job.state() == "waiting-children"
        assert await flows.get_flow(name, flow.job.id) is not None
        await queue.upsert_scheduler("s", Repeat(every=60), data={"do": "echo"})
        sleeper = await queue.add("n", {"do": "sleep", "seconds": 20})
        while await sleeper.state() != "active":  # noqa: ASYNC110 - a state in Redis has no event
            await asyncio.sleep(0.01)
        assert await sleeper.cancel("enough", grace=0) is not None
        await queue.add("n", {"do": "fail"}, delay=60, priority=3)
        await queue.promote_jobs()
        await queue.pause()
        await queue.resume()
        await queue.drain(delayed=True)
        assert not await queue.remove_orphaned_jobs()
        await queue.clean(0, "completed")
        worker.stop()
        await asyncio.wait_for(running, 15)


def test_a_look_for_the_owners_bears_with_new_queues(small_cluster: Cluster) -> None:
    """A queue that is first used while the cluster is looked for must not end the look."""

    async def main() -> None:
        broker = await Broker.connect(small_cluster.url)
        try:
            for tag in ("{a}", "{b}"):
                await broker.command("EXISTS", f"{tag}:key")
            probing = asyncio.create_task(broker._servers.probe())
            await asyncio.sleep(0)
            link = await broker.open_link("{c}:key")
            await link.drop()
            await probing
        finally:
            await broker.close()

    run_async(main())
