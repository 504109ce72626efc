"""Claims of an idle worker wait in Redis: nothing is lost when they are cut off or woken."""

from __future__ import annotations

import asyncio
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxq import Queue, Worker
from sandboxq.broker.commands.claim import claim
from sandboxq.broker.connect.script import load
from tests.broker.servers import FaultProxy, StoppableServer
from tests.conftest import SOON, run_async, wait_until_async

if TYPE_CHECKING:
    from sandboxq.queue.job import QueuedJob

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")


def test_jobs_of_a_claim_whose_reply_was_lost_are_run_at_once(
    tmp_path: Path, queue_name: str
) -> None:
    """They are locked for this worker: it asks for them again instead of letting them stall."""

    async def main(server: StoppableServer) -> None:
        async with (
            FaultProxy(server, cut_at=load("claim").sha.encode(), cuts=1) as proxy,
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, PROCESSOR, url=proxy.url, procs=1) as worker,
        ):
            # NOSCRIPT would be the reply that is lost.
            await worker.broker.command("SCRIPT", "LOAD", load("claim").text)
            jobs = await queue.add_bulk([("echo", {"do": "echo", "value": n}) for n in range(3)])
            run = asyncio.create_task(worker.run())
            for number, job in enumerate(jobs):
                assert await job.result(timeout=60) == number
                ended = await _fresh(job)
                assert (ended.attempts_started, ended.stalled_counter) == (1, 0)
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


def test_a_lost_claim_is_given_back_while_the_claimer_waits_for_redis(
    tmp_path: Path, queue_name: str
) -> None:
    """Where connections are cut again and again that may take longer than the locks last."""
    claim_sha, look = load("claim").sha.encode(), b"\nMGET"

    async def main(server: StoppableServer) -> None:
        async with (
            FaultProxy(server, cut_at=(claim_sha, b"PING", look)) as proxy,
            Queue(queue_name, url=server.url) as queue,
            Worker(queue_name, PROCESSOR, url=proxy.url, procs=1, lock_duration=600) as worker,
        ):
            await worker.broker.command("SCRIPT", "LOAD", load("claim").text)
            jobs = await queue.add_bulk([("echo", {"do": "echo", "value": n}) for n in range(3)])
            run = asyncio.create_task(worker.run())

            async def has_been_looked_for() -> bool:
                return proxy.was_cut_at[look] > 1

            async def have_gone_back() -> bool:
                return (await queue.counts())["active"] == 0

            await wait_until_async(has_been_looked_for)
            assert (await queue.counts())["active"]
            proxy.cut_at = (claim_sha, b"PING")  # the claimer waits for this
            await wait_until_async(have_gone_back)
            proxy.cuts_left = 0
            assert [await job.result(timeout=60) for job in jobs] == [0, 1, 2]
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


def test_a_lost_claim_is_found_behind_any_number_of_later_ones(
    server_url: str, queue_name: str
) -> None:
    """While outcomes cannot be written, everything that was claimed stays active."""
    many, token = 12_000, str(uuid.uuid4())

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, PROCESSOR, url=server_url, procs=1) as worker,
        ):
            broker, keys = worker.broker, worker.keys
            await queue.add_bulk([("echo", {})] * 3)
            now_ms = await broker.now_ms()
            await claim(broker, keys, limit=3, token=token, lock_ms=60_000, now_ms=now_ms)
            await broker.command("LPUSH", keys["active"], *(f"later-{n}" for n in range(many)))
            claims = worker.parts.claimer.claims
            claims.lost.add(token)
            await claims.give_back_lost()
            assert await broker.command("LRANGE", keys["wait"], 0, -1) == [b"3", b"2", b"1"]
            assert await broker.command("LLEN", keys["active"]) == many

    run_async(main())


def test_a_waiting_worker_stops_at_once(server_url: str, queue_name: str) -> None:
    """It must not sleep through its drain delay first."""

    async def main() -> None:
        async with Worker(queue_name, PROCESSOR, url=server_url, procs=1, drain_delay=60) as worker:
            run = asyncio.create_task(worker.run())
            await wait_until_async(lambda: _is_waiting(worker))
            began = time.monotonic()
            worker.stop()
            await run
            assert time.monotonic() - began < SOON

    run_async(main())


def test_a_job_added_while_the_worker_stops_is_not_left_behind(
    server_url: str, queue_name: str
) -> None:
    """Whether the claim got it or not: it is in the queue again, or done, never left active."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            for microseconds in range(0, 1000, 100):
                async with Worker(queue_name, PROCESSOR, url=server_url, procs=1) as worker:
                    run = asyncio.create_task(worker.run())
                    await wait_until_async(partial(_is_waiting, worker))
                    adding = asyncio.create_task(queue.add("echo", {"do": "echo"}))
                    await asyncio.sleep(microseconds / 1e6)
                    worker.stop()
                    await asyncio.gather(run, adding)
                counts = await queue.counts()
                assert counts["active"] == 0
            jobs = await queue.get_jobs(["waiting", "completed"])
            assert len(jobs) == 10
            assert {job.stalled_counter for job in jobs} == {0}

    run_async(main())


def test_processed_on_is_when_the_job_was_claimed(server_url: str, queue_name: str) -> None:
    """What the worker took for the time when it began to wait is long past then."""

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, PROCESSOR, url=server_url, procs=1) as worker,
        ):
            run = asyncio.create_task(worker.run())
            await wait_until_async(lambda: _is_waiting(worker))
            await asyncio.sleep(0.6)
            job = await queue.add("echo", {"do": "echo"})
            await job.result(timeout=60)
            processed_on = (await _fresh(job)).processed_on_ms
            assert processed_on is not None
            assert processed_on >= job.timestamp_ms - 5
            worker.stop()
            await run

    run_async(main())


async def _fresh(job: QueuedJob) -> QueuedJob:
    found = await job.queue.get_job(job.id)
    assert found is not None
    return found


async def _is_waiting(worker: Worker) -> bool:
    return worker.parts.claimer.claims.is_waiting
