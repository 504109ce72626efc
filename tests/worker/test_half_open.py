"""Connections that are dead on one side only: they cost seconds, no job and no stall."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from sandboxq import Queue, Worker
from tests.broker.proxy import Proxy
from tests.broker.servers import StoppableServer
from tests.conftest import run_async, wait_until_async

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")
# The locks of the tests that follow last longer than this: who waits for them is too late.
MOST_SECONDS = 20


async def _is_waiting(worker: Worker) -> bool:
    return worker.parts.claimer.claims.is_waiting


async def _claims_again(worker: Worker, proxy: Proxy) -> bool:
    return worker.parts.claimer.claims.is_waiting and bool(proxy.living(b"BZPOPMIN"))


@pytest.mark.parametrize("may_kill", [True, False])
def test_a_claim_of_a_dead_connection_costs_its_job_nothing(
    tmp_path: Path, queue_name: str, *, may_kill: bool
) -> None:
    """The server holds BZPOPMIN and claim of a worker that is long on another connection."""

    async def main(server: StoppableServer) -> None:
        async with Queue(queue_name, url=server.url) as queue, Proxy(server.port) as proxy:
            await queue.connect()
            broker = await queue._connected()
            rights = ["on", ">p", "~*", "&*", "+@all", *([] if may_kill else ["-client|kill"])]
            await broker.command("ACL", "SETUSER", "u", *rights)
            url = proxy.url.replace("redis://", "redis://u:p@")
            async with Worker(queue_name, PROCESSOR, url=url, procs=1, drain_delay=8) as worker:
                run = asyncio.create_task(worker.run())
                job = await queue.add("echo", {"value": 1})
                assert await job.result(timeout=60) == 1
                await wait_until_async(lambda: _claims_again(worker, proxy))
                for passage in proxy.living(b"BZPOPMIN"):
                    passage.abort_client()
                await wait_until_async(lambda: _claims_again(worker, proxy))

                began = time.monotonic()
                jobs = [await queue.add("echo", {"value": 2}) for _ in range(3)]
                for job in jobs:
                    assert await job.result(timeout=MOST_SECONDS) == 2
                assert time.monotonic() - began < MOST_SECONDS
                done = [await queue.get_job(job.id) for job in jobs]
                assert [job and job.stalled_counter for job in done] == [0] * 3
                assert [job and job.attempts_started for job in done] == [1] * 3
                worker.stop()
                await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


@pytest.mark.parametrize("side", ["deaf", "mute"])
def test_all_connections_swallow_what_goes_one_way(
    tmp_path: Path, queue_name: str, side: str
) -> None:
    """A firewall that forgets: nothing is closed, packets of one direction are gone."""

    async def main(server: StoppableServer) -> None:
        async with (
            Queue(queue_name, url=server.url) as queue,
            Proxy(server.port) as proxy,
            Worker(
                queue_name, PROCESSOR, url=proxy.url, procs=2, lock_duration=8, drain_delay=1
            ) as worker,
        ):
            run = asyncio.create_task(worker.run())
            slow = await queue.add("sleep", {"do": "sleep", "seconds": 6})
            await wait_until_async(lambda: _is_busy(worker))
            for passage in proxy.living():
                setattr(passage, f"is_{side}", True)
            job = await queue.add("echo", {"value": 2})
            assert await job.result(timeout=MOST_SECONDS) == 2
            assert await slow.result(timeout=MOST_SECONDS) == "slept"
            done = [await queue.get_job(each.id) for each in (slow, job)]
            assert [job and job.stalled_counter for job in done] == [0, 0]
            assert worker.counters.locks_lost == 0
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


async def _is_busy(worker: Worker) -> bool:
    return worker.pool.busy == 1
