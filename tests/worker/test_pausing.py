"""One worker pauses, and the others of its queue go on."""

from __future__ import annotations

import asyncio
import time

import pytest

from sandboxq import UsageError, Worker
from tests.conftest import SOON, run_async, wait_until_async
from tests.worker.test_worker import PROCESSOR, running


def test_a_paused_worker_finishes_and_claims_no_more(server_url: str, queue_name: str) -> None:
    """`pause` returns when what was claimed has ended; jobs added then wait until `resume`."""

    async def main() -> None:
        async with running(server_url, queue_name, procs=1, drain_delay=30) as (queue, worker):
            job = await queue.add("sleep", {"do": "sleep", "seconds": 1})
            await wait_until_async(lambda: _holds(worker, 1))

            await worker.pause()

            assert worker.is_paused
            assert await job.state() == "completed"
            later = await queue.add("echo", {"do": "echo", "value": 5})
            await asyncio.sleep(0.3)
            assert await later.state() == "waiting"

            worker.resume()
            assert await later.result(timeout=60) == 5

    run_async(main())


def test_an_idle_worker_pauses_at_once(server_url: str, queue_name: str) -> None:
    """It must not sleep through its drain delay first, nor take the next job."""

    async def main() -> None:
        async with running(server_url, queue_name, procs=1, drain_delay=60) as (queue, worker):
            await wait_until_async(lambda: _is_waiting(worker))
            began = time.monotonic()
            await worker.pause()
            assert time.monotonic() - began < SOON
            await wait_until_async(lambda: _is_not_waiting(worker))
            job = await queue.add("echo", {"do": "echo"})
            await asyncio.sleep(0.2)
            assert await job.state() == "waiting"

    run_async(main())


def test_only_a_running_worker_can_be_paused(server_url: str, queue_name: str) -> None:
    """Else the pause would be forgotten without a word."""

    async def main() -> None:
        worker = Worker(queue_name, PROCESSOR, url=server_url)
        with pytest.raises(UsageError, match="not started"):
            await worker.pause()

    run_async(main())


@pytest.mark.parametrize("skipped", ["skip_stalled_check", "skip_lock_renewal"])
def test_duties_can_be_left_to_others(server_url: str, queue_name: str, skipped: str) -> None:
    """As in Node; the duty is the only one that is missing."""

    async def main() -> None:
        async with running(server_url, queue_name, procs=1, **{skipped: True}) as (_, worker):
            names = {service.name for service in worker._services}
            duty = {"skip_stalled_check": "stalled checker", "skip_lock_renewal": "lock renewer"}
            assert duty.pop(skipped) not in names
            assert set(duty.values()) < names

    run_async(main())


async def _holds(worker: Worker, number: int) -> bool:
    return worker.running == number


async def _is_waiting(worker: Worker) -> bool:
    return worker.parts.claimer.claims.is_waiting


async def _is_not_waiting(worker: Worker) -> bool:
    return not worker.parts.claimer.claims.is_waiting
