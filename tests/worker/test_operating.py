"""What a worker is asked while it runs: wrong arguments and odd ids do no harm."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sandboxq import Queue, Worker
from sandboxq.errors import UsageError
from tests.conftest import run_async, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")


def while_it_runs(
    url: str, queue_name: str, body: Callable[[Queue, Worker], Awaitable[None]]
) -> None:
    """Call the body beside a worker that runs."""

    async def main() -> None:
        async with (
            Queue(queue_name, url=url) as queue,
            Worker(queue_name, PROCESSOR, url=url, procs=1) as worker,
        ):
            running = asyncio.create_task(worker.run())
            await wait_until_async(lambda: _claims(worker))
            await body(queue, worker)
            worker.stop()
            await running

    run_async(main())


async def _claims(worker: Worker) -> bool:
    return worker.parts.claimer.claims.number > 0


def test_a_second_run_beside_the_first_is_refused(server_url: str, queue_name: str) -> None:
    """Two claimers would read each other's replies from one connection."""

    async def body(queue: Queue, worker: Worker) -> None:
        with pytest.raises(UsageError, match="runs once"):
            await worker.run()
        job = await queue.add("echo", {"value": 3})
        assert await job.result(timeout=60) == 3

    while_it_runs(server_url, queue_name, body)


@pytest.mark.parametrize("procs", [0, 2.5, True, "3", 10**9])
def test_a_number_of_children_that_is_none(server_url: str, queue_name: str, procs: Any) -> None:
    """As for the setting, and before any child is started."""

    async def body(_queue: Queue, worker: Worker) -> None:
        with pytest.raises(UsageError, match="procs"):
            await worker.scale(procs)
        assert worker.pool.size == 1

    while_it_runs(server_url, queue_name, body)


def test_all_are_cancelled_whatever_their_ids(server_url: str, queue_name: str) -> None:
    """An id that is no UTF-8 has no text by which it could be asked for."""

    async def body(_queue: Queue, worker: Worker) -> None:
        with redis.Redis.from_url(server_url) as client:
            base = worker.keys.base.encode()
            data = '{"do": "sleep", "seconds": 60}'
            fields = {"name": "sleep", "data": data, "opts": "{}", "timestamp": 1}
            client.hset(base + b"\xff", mapping={**fields, "delay": 0, "priority": 0})
            client.lpush(base + b"wait", b"\xff")
            client.zadd(base + b"marker", {"0": 0})
            await wait_until_async(lambda: _holds_one(worker))
            assert worker.cancel_all(grace=0) == ["\ufffd"]
            await wait_until_async(lambda: _holds_none(worker))
            assert client.zrange(base + b"failed", 0, -1) == [b"\xff"]

    while_it_runs(server_url, queue_name, body)


async def _holds_one(worker: Worker) -> bool:
    return worker.pool.busy == 1


async def _holds_none(worker: Worker) -> bool:
    return worker.running == 0
