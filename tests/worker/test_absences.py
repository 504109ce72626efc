"""After an absence of Redis nobody is taken for dead before all had time to renew."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxq import Queue, Worker
from sandboxq.broker.connect.broker import Broker
from tests.broker.servers import StoppableServer
from tests.chaos.proxy import Proxy
from tests.conftest import run_async, wait_until_async

if TYPE_CHECKING:
    import pytest

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")
LOCK = 3.0
INTERVAL = 2.0


async def _are_busy(workers: list[Worker]) -> bool:
    return all(worker.pool.busy == 2 for worker in workers)


async def _is_noted(queue: Queue, number: int) -> bool:
    """Whether a stalled pass has just noted who is active."""
    broker = await queue._connected()
    return int(await broker.command("SCARD", queue.keys["stalled"])) == number


async def _have_completed(queue: Queue, number: int) -> bool:
    return (await queue.counts())["completed"] == number


def test_jobs_of_living_workers_outlast_an_absence_longer_than_their_locks(
    tmp_path: Path, queue_name: str
) -> None:
    """All 16 of 16 were taken and run again; twice, and they had failed for good."""

    async def main(server: StoppableServer) -> None:
        async with AsyncExitStack() as stack:
            queue = await stack.enter_async_context(Queue(queue_name, url=server.url))
            workers, runs = [], []
            for number in range(2):
                worker = Worker(
                    queue_name,
                    PROCESSOR,
                    url=server.url,
                    procs=2,
                    lock_duration=LOCK,
                    stalled_interval=INTERVAL,
                    name=f"w{number}",
                )
                workers.append(await stack.enter_async_context(worker))
                runs.append(asyncio.create_task(worker.run()))
            for _ in range(2):
                data = {"do": "sleep", "seconds": LOCK + 4}
                jobs = await queue.add_bulk([("sleep", data)] * 4)
                await wait_until_async(lambda: _are_busy(workers))
                await wait_until_async(lambda: _is_noted(queue, 4))
                await asyncio.to_thread(server.kill)
                await asyncio.sleep(LOCK + 0.5)
                await asyncio.to_thread(server.start)
                # A worker that starts now knows nothing of the absence.
                async with Worker(
                    queue_name,
                    PROCESSOR,
                    url=server.url,
                    procs=1,
                    lock_duration=LOCK,
                    stalled_interval=INTERVAL,
                ) as fresh:
                    for job in jobs:
                        assert await job.result(timeout=60) == "slept"
                    assert fresh.counters.locks_lost == 0
                found = [await queue.get_job(job.id) for job in jobs]
                assert [job and job.stalled_counter for job in found] == [0] * 4
                assert [job and job.attempts_started for job in found] == [1] * 4
            for worker in workers:
                worker.stop()
            await asyncio.gather(*runs)

    options = ("--appendonly", "yes", "--appendfsync", "always")
    with StoppableServer(tmp_path, *options) as server:
        run_async(main(server))


def test_a_server_that_does_not_say_how_long_it_runs(
    tmp_path: Path, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After an absence the check asked for the uptime, and crashed where INFO was refused."""

    async def main(server: StoppableServer) -> None:
        admin = await Broker.connect(server.url)
        await admin.command("ACL", "SETUSER", "u", "on", ">pw", "~*", "&*", "+@all")
        url = server.url.replace("//", "//u:pw@")
        async with (
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, PROCESSOR, url=url, procs=1, stalled_interval=1) as worker,
        ):
            run = asyncio.create_task(worker.run())
            await admin.command("ACL", "SETUSER", "u", "-info")
            await admin.command("CLIENT", "KILL", "USER", "u")
            assert await (await queue.add("echo", {"value": 1})).result(timeout=60) == 1
            await wait_until_async(lambda: _is_checked(queue))
            worker.stop()
            await run
        await admin.close()

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
    assert "crashed" not in caplog.text


def test_locks_are_renewed_while_others_wait_for_a_silent_probe(
    tmp_path: Path, queue_name: str
) -> None:
    """The probe that tells that Redis is back may meet a dead connection, for ten seconds."""

    async def main(server: StoppableServer, url: str) -> None:
        async with (
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, PROCESSOR, url=url, procs=1, lock_duration=4) as worker,
        ):
            run = asyncio.create_task(worker.run())
            job = await queue.add("sleep", {"do": "sleep", "seconds": 9})
            await wait_until_async(lambda: _is_busy(worker))
            await asyncio.to_thread(server.freeze)
            await asyncio.sleep(2)  # longer than a renewal may be silent
            await asyncio.to_thread(server.thaw)
            assert await job.result(timeout=60) == "slept"
            assert worker.counters.heartbeats > 0
            assert worker.counters.longest_gap < 8
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server, Proxy(server.port, swallow_at=b"PING") as proxy:
        run_async(main(server, proxy.url))


async def _is_busy(worker: Worker) -> bool:
    return worker.pool.busy == 1


async def _is_checked(queue: Queue) -> bool:
    """Whether a stalled pass has been made."""
    broker = await queue._connected()
    return bool(await broker.command("EXISTS", queue.keys["stalled-check"]))


def test_a_dead_workers_jobs_are_found_all_the_same(server_url: str, queue_name: str) -> None:
    """Patience must not become blindness."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            worker = Worker(
                queue_name, PROCESSOR, url=server_url, procs=1, lock_duration=1, stalled_interval=1
            )
            async with worker:
                job = await queue.add("echo", {"value": 1})
                broker = await queue._connected()
                # Claimed by somebody who has gone.
                await broker.command("RPOPLPUSH", queue.keys["wait"], queue.keys["active"])
                run = asyncio.create_task(worker.run())
                assert await job.result(timeout=60) == 1
                found = await queue.get_job(job.id)
                assert found is not None
                assert found.stalled_counter == 1
                worker.stop()
                await run

    run_async(main())
