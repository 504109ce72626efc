"""What happens to a master that is one no more: nobody of ours writes to it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
import redis

from sandboxq import Queue
from sandboxq.broker.connect.broker import Broker
from sandboxq.errors import BrokerUnavailable
from tests.cluster.drain import PREFIX, add_until_taken, idle_worker
from tests.conftest import run_async, wait_until
from tests.sentinel.servers import DATA_PASSWORD, SentinelSet

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.servers import StoppableServer

pytestmark = pytest.mark.slow

# Seconds from the change to the end of 20 jobs, one after the other.
SOON = 8.0


def _client(server: StoppableServer) -> redis.Redis:
    return redis.Redis(port=server.port, password=DATA_PASSWORD)


def test_a_waiting_worker_leaves_a_demoted_master(tmp_path: Path, queue_name: str) -> None:
    """The master lives on as a replica, and the claim that slept in it is refused there."""

    async def main(sentinels: SentinelSet) -> float:
        async with (
            Queue(queue_name, url=sentinels.url, prefix=PREFIX) as queue,
            idle_worker(sentinels.url, queue_name, queue),
        ):
            old = sentinels.master()
            await asyncio.to_thread(sentinels.fail_over)
            started = time.monotonic()
            for number in range(20):
                job = await add_until_taken(queue, number)
                assert await job.result(60) == number
            assert sentinels.master() is not old
            return time.monotonic() - started

    with SentinelSet(tmp_path) as sentinels:
        took = run_async(main(sentinels))
    print(f"{took:.1f} s until 20 jobs had run, one after the other")  # noqa: T201 - a figure for whoever runs this
    assert took < SOON


def test_a_master_that_was_away_is_not_written_to(tmp_path: Path) -> None:
    """It comes back before anybody has told it that another has taken over, and would take all."""

    async def main(sentinels: SentinelSet) -> StoppableServer:
        broker = await Broker.connect(sentinels.url)
        old = sentinels.master()
        waiting = await broker.blocking("w", "marker")
        # Several connections, all idle when the trouble begins: who waits finds out for them.
        await asyncio.gather(*(broker.command("SET", f"before-{i}", i) for i in range(12)))
        old.freeze()
        with pytest.raises(BrokerUnavailable):
            await waiting.pop_marker("marker", 0.1)
        await asyncio.to_thread(wait_until, lambda: sentinels.master() is not old, timeout=30)
        await broker.wait_until_back()
        sentinels.stop_sentinels()
        old.thaw()
        await asyncio.gather(*(broker.command("SET", f"after-{i}", i) for i in range(40)))
        await broker.close()
        return old

    with SentinelSet(tmp_path) as sentinels:
        old = run_async(main(sentinels))
        with _client(old) as client:
            role, *_ = client.execute_command("ROLE")
            assert role == b"master"
            assert len(client.keys("before-*")) == 12
            assert not client.keys("after-*")
