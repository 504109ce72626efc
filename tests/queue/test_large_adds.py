"""Adds of many bytes: over slow links, interrupted ones, and larger than the server takes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxq import (
    AddInterrupted,
    BrokerUnavailable,
    FlowProducer,
    Queue,
    ResultTooLarge,
    TooLarge,
    UsageError,
    Worker,
)
from sandboxq.queue.job import SyncJob
from tests.broker.proxy import Proxy
from tests.broker.servers import StoppableServer
from tests.conftest import run_async, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.queue.flow_plan import FlowNode
    from sandboxq.queue.options import BulkEntry

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")
MB = 1 << 20
KB15 = "y" * 15_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoppableServer]:
    """Run a server of this test."""
    with StoppableServer(tmp_path) as running:
        yield running


def test_a_bulk_add_takes_as_long_as_its_bytes(server: StoppableServer, queue_name: str) -> None:
    """It failed after ten seconds, however much was still moving."""

    async def main() -> None:
        async with Proxy(server.port, rate=2 * MB) as proxy:
            url = proxy.url + "?socket_timeout=1"
            async with Queue(queue_name, url=url) as queue:
                jobs = await queue.add_bulk([("x", {"t": KB15})] * 400)
                assert len({job.id for job in jobs}) == 400
                assert (await queue.counts())["waiting"] == 400

    run_async(main())


async def _added(queue: Queue) -> list[str]:
    """Return all that were added, once nothing is on its way any more."""
    seen = -1

    async def is_still() -> bool:
        nonlocal seen
        before, seen = seen, (await queue.counts())["waiting"]
        await asyncio.sleep(0.2)
        return before == seen

    await wait_until_async(is_still)
    return [job.id for job in await queue.get_jobs(["waiting"], 0, -1, ascending=True)]


@pytest.mark.parametrize("is_blocking", [False, True])
def test_an_interrupted_bulk_add_tells_what_was_added(
    server: StoppableServer, queue_name: str, *, is_blocking: bool
) -> None:
    """1,300 of 2,000 were, and nobody could say which."""

    async def main() -> None:
        entries: list[BulkEntry] = [("x", {"t": KB15})] * 1000
        async with Queue(queue_name, url=server.url) as queue, Proxy(server.port) as proxy:
            proxy.cut_after_asking = 10 * MB
            add = _add_blocking if is_blocking else _add
            with pytest.raises(BrokerUnavailable) as caught:
                await add(queue_name, proxy.url, entries)
            error = caught.value
            assert isinstance(error, AddInterrupted)
            assert 200 < len(error.added) < 800
            assert [job.id for job in error.results] == error.added
            assert 0 < error.unknown < 400
            there = await _added(queue)
            assert there[: len(error.added)] == error.added
            assert len(there) <= len(error.added) + error.unknown
            assert str(len(error.added)) in str(error)
            if is_blocking:
                assert all(isinstance(job, SyncJob) for job in error.results)

    run_async(main())


async def _add(name: str, url: str, entries: list[BulkEntry]) -> None:
    async with Queue(name, url) as queue:
        await queue.add_bulk(entries)


async def _add_blocking(name: str, url: str, entries: list[BulkEntry]) -> None:
    def add() -> None:
        with Queue.sync(name, url) as queue:
            queue.add_bulk(entries)

    await asyncio.to_thread(add)


def test_an_interrupted_flow_tells_which_ids_to_look_for(
    server: StoppableServer, queue_name: str
) -> None:
    """All of it or none: one look at an id says which."""

    async def main() -> None:
        async with Queue(queue_name, url=server.url) as queue, Proxy(server.port) as proxy:
            proxy.cut_after_asking = MB
            flows: list[FlowNode] = [{"name": "x", "queue": queue_name, "data": {"t": KB15}}] * 200
            async with FlowProducer(url=proxy.url) as producer:
                with pytest.raises(AddInterrupted) as caught:
                    await producer.add_bulk(flows)
            error = caught.value
            assert error.added == []
            assert error.unknown == len(error.unknown_ids) == 200
            there = set(await _added(queue))
            assert there in (set(), set(error.unknown_ids))

    run_async(main())


def test_what_the_server_does_not_take_is_refused_with_words(
    server: StoppableServer, queue_name: str
) -> None:
    """It cuts off whoever sends more: sent again and again, that looked like an outage."""

    async def main() -> None:
        async with Queue(queue_name, url=server.url) as queue:
            broker = await queue._connected()
            await broker.command("CONFIG", "SET", "proto-max-bulk-len", MB)
            large = "x" * (MB + 1)
            for data in ({"t": large}, {"t": b"x" * (MB + 1)}, {"t": "ü" * (MB // 2)}):
                with pytest.raises(TooLarge, match="proto-max-bulk-len"):
                    await queue.add_bulk([("small", {}), ("large", data)])
            async with FlowProducer(url=server.url) as producer:
                with pytest.raises(UsageError, match="proto-max-bulk-len"):
                    await producer.add(name="x", queue=queue_name, data={"t": large})
            assert (await queue.counts())["waiting"] == 0
            job = await queue.add("small", {})
            with pytest.raises(TooLarge, match="proto-max-bulk-len"):
                await job.update_data({"t": large})

            async with Worker(queue_name, PROCESSOR, url=server.url, procs=1) as worker:
                run = asyncio.create_task(worker.run())
                big = await queue.add("big", {"do": "large", "size": 2 * MB})
                small = await queue.add("echo", {"value": 1})
                with pytest.raises(ResultTooLarge, match=str(MB)):
                    await big.result(timeout=60)
                assert await small.result(timeout=60) == 1
                worker.stop()
                await run

    run_async(main())
