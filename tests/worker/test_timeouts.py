"""Timeouts of jobs: the job's own, else the worker's; counted as attempts, and typed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import JobTimeout, UsageError, Worker
from tests.worker.test_worker import with_worker

if TYPE_CHECKING:
    from sandboxq import Queue

ASLEEP = {"do": "sleep", "seconds": 60}


def test_a_job_that_runs_too_long_fails_with_facts(server_url: str, queue_name: str) -> None:
    """Each attempt has the whole time; the last one's reason and facts stand with the job."""

    async def body(queue: Queue, _worker: Worker) -> None:
        job = await queue.add("job", ASLEEP, timeout=0.2, attempts=2)
        started = time.monotonic()
        with pytest.raises(JobTimeout, match=r"^the job ran longer than its timeout of 0\.2 s \("):
            await job.result(timeout=60)
        assert time.monotonic() - started >= 0.4
        stored = await job.refresh()
        assert stored.attempts_made == 2
        assert stored.cause == "JobTimeout"
        assert stored.extra["sq:limit"] == "0.2"
        assert stored.extra["sq:end"] == "soft"
        assert float(stored.extra["sq:elapsed"]) >= 0.2

    with_worker(server_url, queue_name, body)


def test_a_jobs_own_timeout_goes_before_the_workers(server_url: str, queue_name: str) -> None:
    """The worker's is for jobs that say nothing."""

    async def body(queue: Queue, _worker: Worker) -> None:
        patient = await queue.add("job", {"do": "sleep", "seconds": 0.6}, timeout=30)
        other = await queue.add("job", ASLEEP)
        with pytest.raises(JobTimeout, match=r"timeout of 0\.3 s"):
            await other.result(timeout=60)
        assert await patient.result(timeout=60) == "slept"

    with_worker(server_url, queue_name, body, timeout=0.3)


def test_what_does_not_end_is_killed_after_the_grace(server_url: str, queue_name: str) -> None:
    """The grace is a setting; the reason says that the job was killed."""

    async def body(queue: Queue, _worker: Worker) -> None:
        job = await queue.add("job", {"do": "stay", "seconds": 60}, timeout=0.2)
        started = time.monotonic()
        with pytest.raises(JobTimeout, match="was killed after"):
            await job.result(timeout=60)
        assert time.monotonic() - started >= 0.7
        assert (await job.refresh()).extra["sq:end"] == "hard"

    with_worker(server_url, queue_name, body, timeout_grace=0.5)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": "1"}, {"timeout_grace": -1}])
def test_senseless_timeouts_are_refused(queue_name: str, options: Any) -> None:
    """Before anything is started."""
    with pytest.raises(UsageError, match="timeout"):
        Worker(queue_name, "sleep.py", **options)
