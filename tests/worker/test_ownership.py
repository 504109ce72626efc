"""A worker owns what it claims at once: a bad row harms only itself, and waits end in time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sandboxq import Queue, Worker
from sandboxq.errors import OutcomesLost
from sandboxq.worker.service import Service
from tests.broker.servers import FaultProxy, StoppableServer
from tests.conftest import run_async, wait_until_async
from tests.worker.test_worker import PROCESSOR, running, with_worker

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.worker.claims import Claims

NEIGHBOURS = 6


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("atm", "abc"),
        ("atm", "-1"),
        ("atm", "9" * 40),
        ("atm", b"\xff\x00"),
        ("ats", "nan"),
        ("ats", "inf"),
        ("ats", "-7"),
        ("stc", "1e400"),
        ("sq:crashes", "many"),
        ("sq:beside", "-2"),
    ],
)
def test_a_row_that_cannot_be_read_fails_alone(
    server_url: str, queue_name: str, field: str, value: str | bytes
) -> None:
    """The others of its claim run once; it fails with the name of its field, or runs too."""

    async def body(queue: Queue, worker: Worker) -> None:
        await worker.pause()
        jobs = await queue.add_bulk([("echo", {"value": n}) for n in range(NEIGHBOURS)])
        bad = jobs[NEIGHBOURS // 2]
        more = {"sq:crashes": "1", "processedOn": "1"} if field == "sq:beside" else {}
        more = {"processedOn": "1"} if field == "sq:crashes" else more
        members = [part for item in {**more, field: value}.items() for part in item]
        await worker.broker.command("HSET", worker.keys[bad.id], *members)

        worker.resume()

        await wait_until_async(lambda: _has_ended(queue, NEIGHBOURS))
        await wait_until_async(lambda: _holds(worker, 0))
        for job in jobs:
            if job is not bad:
                seen = await queue.get_job(job.id)
                assert seen is not None
                assert (seen.returnvalue, seen.attempts_started) == (jobs.index(job), 1)
        if await bad.state() == "failed":
            assert (
                field
                in (
                    await worker.broker.command("HGET", worker.keys[bad.id], "failedReason")
                ).decode()
            )

    with_worker(server_url, queue_name, body, procs=2)


@pytest.mark.parametrize("waits", ["pause", "stop"])
def test_a_wait_ends_when_the_last_lock_is_lost(
    server_url: str, queue_name: str, waits: str
) -> None:
    """What has gone otherwise than by an outcome has gone: nobody waits for it any longer."""

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(
                queue_name,
                PROCESSOR,
                url=server_url,
                procs=1,
                lock_duration=1,
                shutdown_timeout=600,
            ) as worker,
        ):
            run = asyncio.create_task(worker.run())
            job = await queue.add("sleep", {"do": "sleep", "seconds": 600})
            await wait_until_async(lambda: _holds(worker, 1))
            waiting = asyncio.create_task(worker.pause()) if waits == "pause" else run
            if waits == "stop":
                worker.stop()

            await worker.broker.command("SET", worker.keys[f"{job.id}:lock"], "somebody else")

            await asyncio.wait_for(waiting, 20)
            assert (worker.running, worker.pool.held) == (0, 0)
            worker.stop()
            await run

    run_async(main())


def test_nothing_runs_once_a_pause_has_returned(tmp_path: Path, queue_name: str) -> None:
    """Also when a claim was under way, whenever the pause comes: its jobs are waited for."""

    async def main(server: StoppableServer) -> None:
        async with FaultProxy(server, delay=0.1) as far, Queue(queue_name, server.url) as queue:
            for moment in range(14):
                await queue.add_bulk([("echo", {})] * 20)
                async with Worker(queue_name, PROCESSOR, url=far.url, procs=2) as worker:
                    run = asyncio.create_task(worker.run())
                    await asyncio.sleep(0.05 * moment)
                    await worker.pause()
                    counts = await queue.counts()
                    assert counts["active"] == 0
                    await asyncio.sleep(0.2)  # what must not happen has time to
                    assert await queue.counts() == counts
                    worker.stop()
                    await run
                await queue.obliterate(force=True)
                await queue.resume()

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


def test_a_pause_wakes_a_claim_that_has_just_begun_to_wait(
    server_url: str, queue_name: str
) -> None:
    """Whether Redis has read it yet or not; else the pause would take the whole drain delay."""

    async def main() -> None:
        async with running(server_url, queue_name, procs=1, drain_delay=600) as (_, worker):
            for step in range(20):
                await wait_until_async(lambda: _is_waiting(worker.parts.claimer.claims))
                for _ in range(step):
                    await asyncio.sleep(0)
                began = time.monotonic()
                await worker.pause()
                assert time.monotonic() - began < 60
                worker.resume()

    run_async(main())


def test_a_pause_returns_when_the_worker_ends(tmp_path: Path, queue_name: str) -> None:
    """Also when Redis is gone for good and what was held stays unsettled."""

    async def main(server: StoppableServer) -> None:
        queue = Queue(queue_name, url=server.url)
        worker = Worker(queue_name, PROCESSOR, url=server.url, procs=1, shutdown_timeout=0.2)
        await worker.start()
        run = asyncio.create_task(worker.run())
        await queue.add("sleep", {"do": "sleep", "seconds": 600})
        await wait_until_async(lambda: _holds(worker, 1))
        pausing = asyncio.create_task(worker.pause())
        await asyncio.to_thread(server.stop)
        worker.stop()
        with pytest.raises(OutcomesLost):
            await asyncio.wait_for(run, 60)
        await worker.close()
        await asyncio.wait_for(pausing, 10)
        assert worker.running == 0
        await queue.close()

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


def test_a_stop_does_not_wait_for_data_on_its_way(tmp_path: Path, queue_name: str) -> None:
    """A job whose arrays are being read never began: it goes back at once."""
    data = {"pixels": np.zeros(6 << 20, np.uint8)}

    async def main(server: StoppableServer) -> None:
        async with FaultProxy(server, delay=1.0) as far, Queue(queue_name, server.url) as queue:
            worker = Worker(
                queue_name, PROCESSOR, url=far.url, procs=1, shutdown_timeout=600, lock_duration=60
            )
            async with worker:
                run = asyncio.create_task(worker.run())
                job = await queue.add("echo", data)
                await wait_until_async(lambda: _is_fetching(worker))
                worker.stop()
                await asyncio.wait_for(run, 60)
                assert await job.state() == "waiting"
                seen = await queue.get_job(job.id)
                assert seen is not None
                assert seen.attempts_started == 0

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


@pytest.mark.parametrize("error", [asyncio.CancelledError, ValueError])
def test_a_service_that_falls_over_comes_back(error: type[BaseException]) -> None:
    """Also when something in it raises a cancellation that nobody asked for."""
    starts: list[int] = []

    async def loop() -> None:
        starts.append(1)
        if len(starts) < 3:
            raise error
        await asyncio.Event().wait()

    async def main() -> None:
        service = Service("a service", loop)
        service.start()
        await wait_until_async(lambda: _has(starts, 3))
        await service.stop()

    run_async(main())


async def _has(starts: list[int], number: int) -> bool:
    return len(starts) == number


async def _is_fetching(worker: Worker) -> bool:
    return worker.parts.blobs.pending == 1


async def _has_ended(queue: Queue, number: int) -> bool:
    counts = await queue.counts()
    return counts["completed"] + counts["failed"] == number


async def _holds(worker: Worker, number: int) -> bool:
    return worker.running == number


async def _is_waiting(claims: Claims) -> bool:
    return claims.is_waiting
