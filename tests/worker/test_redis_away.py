"""Redis goes away under a running worker: it waits, says so once, goes on, and loses nothing."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

import redis

from sandboxq import Queue, Worker
from sandboxq.observe.telemetry import (
    BrokerBack,
    BrokerLost,
    Event,
    HeartbeatSent,
    Telemetry,
)
from tests.broker.servers import FaultProxy, StoppableServer
from tests.conftest import run_async, wait_until_async

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")


async def _has_completed(queue: Queue, number: int) -> bool:
    return (await queue.counts())["completed"] == number


def test_outcomes_wait_for_redis_to_come_back(tmp_path: Path, queue_name: str) -> None:
    """Jobs that end while Redis is away are settled when it is back, each once, none run again."""
    events: list[Event] = []
    telemetry = Telemetry()
    telemetry.subscribe(events.append)
    marks = tmp_path / "marks"

    async def main(server: StoppableServer) -> None:
        async with (
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, PROCESSOR, url=server.url, procs=2, telemetry=telemetry) as worker,
        ):
            run = asyncio.create_task(worker.run())
            data = {"do": "mark", "path": str(marks), "seconds": 0.7}
            await queue.add_bulk([("mark", data)] * 4)
            await wait_until_async(lambda: _is_busy(worker, 2))

            await asyncio.to_thread(server.stop)
            cpu = time.process_time()
            await asyncio.sleep(1.2)
            assert time.process_time() - cpu < 0.6
            await asyncio.to_thread(server.start)

            await wait_until_async(lambda: _has_completed(queue, 4))
            worker.stop()
            await run
            jobs = await queue.get_jobs(["completed"])
            assert [job.attempts_started for job in jobs] == [1] * 4

    with StoppableServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        run_async(main(server))
    assert len(marks.read_text().split()) == 4
    assert [type(event) for event in events if isinstance(event, (BrokerLost, BrokerBack))] == [
        BrokerLost,
        BrokerBack,
    ]


async def _is_busy(worker: Worker, number: int) -> bool:
    return worker.pool.busy == number


def test_an_idle_worker_survives_a_restart(tmp_path: Path, queue_name: str) -> None:
    """The blocking read is taken up again, under the name by which dashboards know the worker."""

    async def main(server: StoppableServer) -> None:
        async with Worker(queue_name, PROCESSOR, url=server.url, procs=1, name="w1") as worker:
            run = asyncio.create_task(worker.run())
            await wait_until_async(lambda: _is_named(worker))
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.start)
            async with Queue(queue_name, url=server.url) as queue:
                job = await queue.add("echo", {"value": 3})
                assert await job.result(timeout=60) == 3
                await wait_until_async(lambda: _is_named(worker))
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


async def _is_named(worker: Worker) -> bool:
    clients = await worker.broker.command("CLIENT", "LIST")
    return f"name={worker.keys.client_name}:w:w1 ".encode() in clients


def test_runs_outlast_a_redis_that_is_frozen_for_longer_than_a_lock(
    tmp_path: Path, queue_name: str
) -> None:
    """Nobody has taken the job meanwhile: to end its run would only lose work."""
    marks = tmp_path / "marks"

    async def main(server: StoppableServer) -> None:
        async with (
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, PROCESSOR, url=server.url, procs=1, lock_duration=0.8) as worker,
        ):
            run = asyncio.create_task(worker.run())
            job = await queue.add("m", {"do": "mark", "path": str(marks), "seconds": 4})
            await wait_until_async(lambda: _is_busy(worker, 1))
            server.freeze()
            await asyncio.sleep(1.6)
            server.thaw()
            await job.result(timeout=60)
            assert worker.counters.locks_lost == 0
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
    assert len(marks.read_text().split()) == 1


def test_a_claim_whose_reply_is_lost_keeps_no_jobs(tmp_path: Path, queue_name: str) -> None:
    """The server ran it, and nobody knows of the jobs: they would stay active until they stall."""

    async def main(server: StoppableServer) -> None:
        async with Queue(queue_name, url=server.url) as queue:
            async with Worker(queue_name, PROCESSOR, url=server.url, procs=1) as worker:
                await queue.add("echo", {"value": 1})
                await worker.run(burst=True)  # the server knows the scripts from now on
            await queue.add_bulk([("echo", {"value": 1})] * 5)
            # The token of a worker's first claim ends so, and nothing else does.
            async with FaultProxy(server, cut_at=b":1\r\n") as proxy:
                async with Worker(queue_name, PROCESSOR, url=proxy.url, procs=1) as worker:
                    await asyncio.wait_for(worker.run(burst=True), 15)
                assert proxy.connections > 2
            jobs = await queue.get_jobs(["completed"])
            assert [job.attempts_started for job in jobs] == [1] * 6
            assert [job.stalled_counter for job in jobs] == [0] * 6

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


def test_locks_are_renewed_though_the_probe_of_an_absence_never_comes_through(
    tmp_path: Path, queue_name: str
) -> None:
    """All others wait longer and longer for a Redis that relapses; a lock has no time for that."""
    beats = 0
    telemetry = Telemetry()

    def count(event: Event) -> None:
        nonlocal beats
        beats += isinstance(event, HeartbeatSent)

    telemetry.subscribe(count)

    async def main(server: StoppableServer) -> None:
        async with (
            FaultProxy(server) as proxy,
            Queue(queue_name, url=server.url) as queue,
            Worker(
                queue_name, PROCESSOR, url=proxy.url, procs=1, lock_duration=2, telemetry=telemetry
            ) as worker,
        ):
            run = asyncio.create_task(worker.run())
            job = await queue.add("sleep", {"do": "sleep", "seconds": 3600})
            await wait_until_async(lambda: _is_busy(worker, 1))
            proxy.cut_at, proxy.cuts_left = b"PING", math.inf
            with redis.Redis(port=server.port) as client:
                client.client_kill_filter(_type="normal")
            since = beats

            async def have_been_renewed() -> bool:
                return beats >= since + 5

            await wait_until_async(have_been_renewed)
            assert worker.counters.locks_lost == 0
            proxy.cuts_left = 0
            await queue.cancel(job.id)
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
