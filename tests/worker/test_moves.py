"""Processors that have their job moved, and workers that obey limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import wait_until_async
from tests.worker.test_worker import with_worker

if TYPE_CHECKING:
    from sandboxq import Queue, Worker


@pytest.mark.parametrize("data", [{"to": "delayed", "seconds": 0.3}, {"to": "wait"}])
def test_a_moved_job_runs_again_and_no_attempt_counts(
    server_url: str, queue_name: str, data: dict[str, Any]
) -> None:
    """A job with one attempt may be put off as often as its processor likes."""

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("move", {"do": "move", **data}, attempts=1)
        assert await job.result(timeout=60) == 2
        stored = await job.refresh()
        assert (stored.attempts_made, stored.attempts_started) == (1, 2)
        assert stored.failed_reason is None
        assert worker.counters.failed == 0

    with_worker(server_url, queue_name, body)


def test_waiting_for_children_that_are_done_goes_on(server_url: str, queue_name: str) -> None:
    """Children may end before their parent asks to wait for them."""

    async def body(queue: Queue, _worker: Worker) -> None:
        job = await queue.add("move", {"do": "move", "to": "waiting-children"})
        assert await job.result(timeout=60) == 2

    with_worker(server_url, queue_name, body)


def test_a_parent_waits_for_its_child(server_url: str, queue_name: str) -> None:
    """The job is run again only when the child has completed."""

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("move", {"do": "move", "to": "waiting-children"}, delay=60)
        dependencies = worker.keys[f"{job.id}:dependencies"]
        await worker.broker.command("SADD", dependencies, "bull:elsewhere:1")
        await job.promote()
        await wait_until_async(lambda: _is_in(queue, job.id, "waiting-children"))
        assert (await job.refresh()).attempts_made == 0

    with_worker(server_url, queue_name, body)


async def _is_in(queue: Queue, job_id: str, state: str) -> bool:
    return await queue.job_state(job_id) == state


def test_a_job_may_stop_its_queue_for_a_while(server_url: str, queue_name: str) -> None:
    """A service that says "come back later" means all jobs; no worker needs a limiter for it."""

    async def body(queue: Queue, _worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        job = await queue.add("move", {"do": "move", "to": "rate-limit", "seconds": 0.6})
        await wait_until_async(lambda: _has_moved(queue, job.id))
        other = await queue.add("echo", {"value": 1})
        assert await other.result(timeout=60) == 1
        assert loop.time() - began > 0.59
        assert await job.result(timeout=60) == 2
        assert (await job.refresh()).attempts_made == 1

    with_worker(server_url, queue_name, body)


async def _has_moved(queue: Queue, job_id: str) -> bool:
    job = await queue.read_job(job_id)
    return job.attempts_started == 1 and await _is_in(queue, job_id, "waiting")
