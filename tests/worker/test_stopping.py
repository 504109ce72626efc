"""A worker that is told to stop, stops: whatever Redis does, and loses no outcome on the way."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from sandboxq import Queue, UsageError, Worker
from tests.broker.servers import StoppableServer
from tests.conftest import SOON, WAIT_SECONDS, run_async, wait_until_async

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")


def _worker(name: str, url: str, **options: Any) -> Worker:
    return Worker(name, PROCESSOR, url=url, **{"procs": 1, "shutdown_timeout": 1, **options})


async def _seconds_to_stop(worker: Worker, run: asyncio.Task[None]) -> float:
    started = time.monotonic()
    worker.stop()
    await asyncio.wait_for(run, WAIT_SECONDS)
    return time.monotonic() - started


def test_idle_worker_stops_while_redis_is_away(tmp_path: Path, queue_name: str) -> None:
    """The last word to Redis is a courtesy; a deploy must not hang on it."""

    async def main(server: StoppableServer) -> None:
        async with _worker(queue_name, server.url) as worker:
            run = asyncio.create_task(worker.run())
            await wait_until_async(lambda: _is_waiting(worker))
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(0.3)
            assert await _seconds_to_stop(worker, run) < SOON

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


async def _is_waiting(worker: Worker) -> bool:
    return worker.parts.claimer.claims.is_waiting


def test_worker_stops_whose_claim_is_never_answered(tmp_path: Path, queue_name: str) -> None:
    """A claim in flight is waited for, as it may bring jobs; its failure is no reason to go on."""

    async def main(server: StoppableServer) -> None:
        url = f"{server.url}?socket_timeout=1"
        async with _worker(queue_name, url, drain_delay=0.01) as worker:
            run = asyncio.create_task(worker.run())
            await wait_until_async(lambda: _is_waiting(worker))
            server.freeze()
            # The reader gives up, the claim that follows hangs.
            await wait_until_async(lambda: _is_claiming(worker))
            assert await _seconds_to_stop(worker, run) < SOON
            server.thaw()

    async def _is_claiming(worker: Worker) -> bool:
        before = worker.parts.claimer.claims.number
        await asyncio.sleep(0.05)
        return worker.parts.claimer.claims.number == before

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


@pytest.mark.parametrize("after", [0, 0.1, 0.39, 0.4, 0.41])
def test_impatient_cancellation_loses_no_outcome(
    server_url: str, queue_name: str, tmp_path: Path, after: float
) -> None:
    """Who cancels `run` twice cuts the winding down short; what ends meanwhile is settled yet."""
    path = tmp_path / "runs"

    async def main() -> None:
        async def work() -> None:
            async with _worker(queue_name, server_url, procs=2, shutdown_timeout=60) as worker:
                await worker.run()

        async def has_begun() -> bool:  # in its child: what was only sent goes back
            return path.exists() and len(path.read_text().split()) == 2

        data = {"do": "mark", "path": str(path), "seconds": 1}
        async with Queue(queue_name, url=server_url) as queue:
            await queue.add_bulk([("mark", data)] * 2)
            task = asyncio.create_task(work())
            await wait_until_async(has_begun)
            task.cancel()
            await asyncio.sleep(after)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            counts = await queue.counts()
            assert (counts["completed"], counts["active"]) == (2, 0)

    run_async(main())


def test_a_second_run_is_refused(server_url: str, queue_name: str) -> None:
    """To return at once with the jobs still there would look like work done."""

    async def main() -> None:
        async with _worker(queue_name, server_url) as worker:
            await worker.run(burst=True)
            with pytest.raises(UsageError, match="once"):
                await worker.run(burst=True)

    run_async(main())
