"""A master that may not take writes without a replica: refused is not lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import redis

from sandboxq import Queue
from sandboxq.errors import BrokerUnavailable
from tests.broker.servers import StoppableServer
from tests.cluster.drain import PREFIX, add_until_taken, idle_worker
from tests.conftest import run_async, wait_until_async

if TYPE_CHECKING:
    from pathlib import Path


def test_a_master_without_replicas_refuses_for_a_while(tmp_path: Path, queue_name: str) -> None:
    """What bounds the loss of a failover must not stop a worker for good."""

    def want(server: StoppableServer, replicas: int) -> None:
        with redis.Redis(port=server.port) as client:
            client.config_set("min-replicas-to-write", replicas)

    async def main(server: StoppableServer) -> None:
        async with (
            Queue(queue_name, url=server.url, prefix=PREFIX) as queue,
            idle_worker(server.url, queue_name, queue),
        ):
            sleeper = await queue.add("n", {"do": "sleep", "seconds": 0.5})

            async def is_active() -> bool:
                return await sleeper.state() == "active"

            await wait_until_async(is_active)
            want(server, 1)
            with pytest.raises(BrokerUnavailable, match="NOREPLICAS"):
                await queue.add("n", {})
            await asyncio.sleep(1)
            assert await sleeper.state() == "active"
            want(server, 0)
            assert await sleeper.result(60) == "slept"
            job = await add_until_taken(queue, 1)
            assert await job.result(60) == 1

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
