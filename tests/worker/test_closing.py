"""A worker starts once and closes once, whoever asks for it, how often, and when."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from sandboxq import Queue, UsageError, Worker
from sandboxq.errors import QueueError
from sandboxq.worker.service import MOST_CRASHES, Service
from tests.conftest import run_async, wait_until_async

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")
# Longer than a worker waits for children whose time is over.
LONG = 7


def _worker(name: str, url: str, **options: Any) -> Worker:
    return Worker(name, PROCESSOR, url=url, **{"procs": 1, "shutdown_timeout": 60, **options})


async def _with_a_running_job(queue: Queue, path: Path, seconds: float) -> None:
    async def has_begun() -> bool:
        return await asyncio.to_thread(path.exists)

    await queue.add("mark", {"do": "mark", "path": str(path), "seconds": seconds})
    await wait_until_async(has_begun)


@pytest.mark.parametrize("order", ["run first", "three at once"])
def test_who_closes_second_cuts_nothing_short(
    server_url: str, queue_name: str, tmp_path: Path, order: str
) -> None:
    """A second `close`, or one beside `run`, ended after 5 s what had the shutdown timeout."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            worker = _worker(queue_name, server_url)
            await worker.start()
            run = asyncio.create_task(worker.run())
            await _with_a_running_job(queue, tmp_path / "runs", LONG)
            if order == "run first":
                worker.stop()
                await asyncio.sleep(0.1)  # `run` is the one that winds down
            await asyncio.gather(*(worker.close() for _ in range(3)))
            await run
            assert (await queue.counts())["completed"] == 1

    run_async(main())


def test_a_cancelled_close_hands_back_what_runs(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """It left the jobs active, for others to find them stalled."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            worker = _worker(queue_name, server_url)
            await worker.start()
            run = asyncio.create_task(worker.run())
            await _with_a_running_job(queue, tmp_path / "runs", 60)
            closing = asyncio.create_task(worker.close())
            await asyncio.sleep(0.1)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            await run
            counts = await queue.counts()
            assert (counts["waiting"], counts["active"]) == (1, 0)

    run_async(main())


def test_a_worker_is_started_once(server_url: str, queue_name: str) -> None:
    """A second start made a second pool, which nobody ended."""

    async def main() -> None:
        worker = _worker(queue_name, server_url)
        async with worker:
            children = worker.pool.pids
            with pytest.raises(UsageError, match="make another"):
                await worker.start()
            assert worker.pool.pids == children
        with pytest.raises(UsageError, match="make another"):
            await worker.start()

    run_async(main())


@pytest.mark.parametrize("after", [0, 0.05, 0.3])
def test_a_worker_is_closed_while_it_starts(server_url: str, queue_name: str, after: float) -> None:
    """Nothing of it stays, and whoever starts it is told."""

    async def main() -> None:
        worker = _worker(queue_name, server_url)
        starting = asyncio.create_task(worker.start())
        await asyncio.sleep(after)
        await asyncio.wait_for(worker.close(), 30)
        # A start that has had some time may have been quicker than its end.
        told = contextlib.suppress(UsageError) if after else pytest.raises(UsageError)
        with told:
            await starting
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_async(main())


@pytest.mark.parametrize("may_wait", [True, False])
def test_what_redis_refuses_ends_no_worker_that_may_wait(*, may_wait: bool) -> None:
    """A key of another type for ten seconds ended every worker of the queue."""

    async def main() -> None:
        calls = 0
        failures: list[Exception] = []

        async def loop() -> None:
            nonlocal calls
            calls += 1
            message = "WRONGTYPE"
            raise QueueError(message)

        async def has_tried() -> bool:
            return calls == MOST_CRASHES

        service = Service("claimer", loop, failures.append, may_wait=may_wait)
        service.start()
        await wait_until_async(has_tried)
        await service.stop()
        assert bool(failures) is not may_wait

    run_async(main())
