"""Callers who give up leave no connection behind that nobody closes."""

from __future__ import annotations

import asyncio

import pytest

from sandboxq.broker.connect.blocking import BlockingReader
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.connect.connection import _IDLE_SECONDS
from sandboxq.errors import BrokerUnavailable
from tests.conftest import run_async, wait_until_async


def test_a_caller_who_is_cancelled_leaves_no_connection_behind(
    server_url: str, queue_name: str
) -> None:
    """An idle connection is looked at before it is used, which takes a moment."""

    async def connections(broker: Broker) -> int:
        rows = (await broker.command("CLIENT", "LIST")).splitlines()
        return sum(b"name=mine " not in row for row in rows)

    async def main() -> None:
        watching = await Broker.connect(server_url)
        before = await connections(watching)
        broker = await Broker.connect(server_url)
        await asyncio.sleep(_IDLE_SECONDS * 2)
        asking = asyncio.create_task(broker.command("GET", queue_name))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await broker.close()

        async def is_as_before() -> bool:
            return await connections(watching) == before

        await wait_until_async(is_as_before, timeout=2)
        await watching.close()

    run_async(main())


def test_a_reader_that_is_closed_while_it_connects_leaves_no_connection(
    server_url: str, queue_name: str
) -> None:
    """Nobody else would close it: its owner believes that it is closed."""

    async def main() -> None:
        broker = await Broker.connect(server_url)
        reader = BlockingReader(broker, queue_name, "k")
        opening = asyncio.create_task(reader.open())
        await asyncio.sleep(0)
        await reader.close()
        with pytest.raises(BrokerUnavailable, match="closed"):
            await opening

        async def is_gone() -> bool:
            rows = await broker.command("CLIENT", "LIST")
            return f"name={queue_name} ".encode() not in rows

        await wait_until_async(is_gone, timeout=2)
        await broker.close()

    run_async(main())
