"""What a worker adds to the rules of its jobs: back-off strategies and a limit of starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq import Backoff, JobFailed
from tests.worker.test_worker import with_worker

if TYPE_CHECKING:
    from sandboxq import Queue, Worker

FAILS_TWICE = {"do": "fail-until", "times": 2}


def test_a_strategy_of_the_workers_decides_how_long_to_wait(
    server_url: str, queue_name: str
) -> None:
    """Node has one strategy for all names; ours are found by the name that the job gives."""
    seen: list[tuple[int, str, str]] = []

    def mine(attempts_made: int, error_name: str, reason: str) -> float:
        seen.append((attempts_made, error_name, reason))
        return 0.05

    async def body(queue: Queue, _worker: Worker) -> None:
        job = await queue.add("fail", FAILS_TWICE, attempts=3, backoff=Backoff.custom("mine"))
        assert await job.result(timeout=60) == 2
        assert seen == [(1, "ValueError", "attempt 0"), (2, "ValueError", "attempt 1")]

    with_worker(server_url, queue_name, body, backoff_strategies={"mine": mine})


def test_an_unknown_strategy_fails_the_job_and_says_so(server_url: str, queue_name: str) -> None:
    """Under Node such a job stays active, stalls, and comes back for ever."""

    async def body(queue: Queue, _worker: Worker) -> None:
        job = await queue.add("fail", FAILS_TWICE, attempts=3, backoff=Backoff.custom("theirs"))
        with pytest.raises(JobFailed, match=r"attempt 0 .not tried again: .* strategy 'theirs'"):
            await job.result(timeout=60)

    with_worker(server_url, queue_name, body)


def test_a_job_that_was_started_too_often_is_not_run(server_url: str, queue_name: str) -> None:
    """A job that takes its worker with it each time would otherwise never end."""

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("echo", {}, delay=0.3, attempts=9)
        await worker.broker.command("HSET", worker.keys[job.id], "ats", 3)
        with pytest.raises(JobFailed, match="started more than allowable limit"):
            await job.result(timeout=60)
        retried = await queue.add("fail", {"do": "fail"}, attempts=9)
        with pytest.raises(JobFailed, match="boom"):
            await retried.result(timeout=60)
        assert (await retried.refresh()).attempts_made == 3

    with_worker(server_url, queue_name, body, max_started_attempts=3)
