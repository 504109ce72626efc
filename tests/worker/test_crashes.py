"""Jobs that end their children: counted apart from attempts, and never run for ever."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from sandboxq import JobCrashed, Queue, UsageError, Worker
from sandboxq.sandbox.processes import children_of
from tests.conftest import run_async, wait_until_async
from tests.worker.test_worker import PROCESSOR, running

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.queue.job import QueuedJob


async def _stored(job: QueuedJob) -> QueuedJob:
    found = await job.queue.get_job(job.id)
    assert found is not None
    return found


def test_the_third_crash_is_the_last_whatever_attempts_remain(
    server_url: str, queue_name: str
) -> None:
    """A job that kills its host and is tried twenty times takes twenty children along."""

    async def main() -> None:
        async with running(server_url, queue_name) as (queue, _):
            job = await queue.add("poison", {"do": "segv"}, attempts=20)
            with pytest.raises(JobCrashed, match="crashed 3 times"):
                await job.result(timeout=60)
            stored = await _stored(job)
            assert (stored.attempts_made, stored.crashes) == (3, 3)
            assert stored.crash_history == ("SIGSEGV", "SIGSEGV", "SIGSEGV")
            assert stored.cause == "JobCrashed"

    run_async(main())


def test_a_retry_by_hand_counts_crashes_anew(server_url: str, queue_name: str) -> None:
    """Whoever retries a job has mended something."""

    async def main() -> None:
        async with running(server_url, queue_name, max_crashes=2) as (queue, _):
            job = await queue.add("poison", {"do": "exit", "code": 3}, attempts=9)
            with pytest.raises(Exception, match="crashed 2 times"):
                await job.result(timeout=60)
            await job.update_data({"do": "echo", "value": "mended"})
            await job.retry()
            assert await job.result(timeout=60) == "mended"
            assert (await _stored(job)).crashes == 0

    run_async(main())


def test_raising_is_no_crash(server_url: str, queue_name: str) -> None:
    """An attempt that fails in an orderly way leaves its child and the counter alone."""

    async def main() -> None:
        async with running(server_url, queue_name, max_crashes=1) as (queue, worker):
            pids = set(worker.pool.pids)
            job = await queue.add("f", {"do": "fail-until", "times": 4}, attempts=5)
            assert await job.result(timeout=60) == 4
            assert (await _stored(job)).crashes == 0
            assert set(worker.pool.pids) == pids

    run_async(main())


def test_death_of_the_fork_server_uses_no_attempt(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Its job did nothing wrong: it runs again though it has a single attempt, and completes."""
    marks = tmp_path / "marks"

    async def main() -> None:
        async with running(server_url, queue_name, procs=1) as (queue, worker):
            job = await queue.add("m", {"do": "mark", "path": str(marks), "seconds": 2})
            await wait_until_async(lambda: _has_lines(marks, 1))
            (child,) = worker.pool.pids
            (zygote,) = [pid for pid in children_of(os.getpid()) if child in children_of(pid)]
            os.kill(zygote, signal.SIGKILL)
            await job.result(timeout=60)
            stored = await _stored(job)
            assert (stored.attempts_made, stored.attempts_started, stored.crashes) == (1, 2, 1)
            assert len(marks.read_text().split()) == 2

    run_async(main())


def test_a_job_that_kills_the_fork_server_again_and_again_fails(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """What is not blamed must not go round for ever either."""
    processor = tmp_path / "murder.py"
    processor.write_text(
        "import os, signal, time\n"
        "def process(job):\n    os.kill(os.getppid(), signal.SIGKILL)\n    time.sleep(30)\n"
    )

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, str(processor), url=server_url, procs=1, max_crashes=2) as worker,
        ):
            run = asyncio.create_task(worker.run())
            job = await queue.add("m", {})
            with pytest.raises(JobCrashed, match=r"zygote .* crashed 2 times"):
                await job.result(timeout=60)
            worker.stop()
            await run

    run_async(main())


def test_kill_ends_the_run(server_url: str, queue_name: str) -> None:
    """A worker without children that runs on would claim nothing for ever."""

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, PROCESSOR, url=server_url, procs=1) as worker,
        ):
            run = asyncio.create_task(worker.run())
            job = await queue.add("s", {"do": "sleep", "seconds": 60})
            await wait_until_async(lambda: _is_active(job))
            worker.kill()
            await asyncio.wait_for(run, 5)
            assert await job.state() == "waiting"

    run_async(main())


@pytest.mark.parametrize("number", [0, -1, "many"])
def test_a_limit_that_cannot_work_is_refused(number: object, queue_name: str) -> None:
    """A job must be allowed one crash, or no job could be run."""
    with pytest.raises(UsageError, match="max_crashes"):
        Worker(queue_name, PROCESSOR, max_crashes=number)  # type: ignore[arg-type]


async def _has_lines(path: Path, number: int) -> bool:
    return path.exists() and len(path.read_text().split()) >= number  # noqa: ASYNC240 - a local file


async def _is_active(job: QueuedJob) -> bool:
    return await job.state() == "active"


def test_a_worker_replaces_its_children(server_url: str, queue_name: str) -> None:
    """The settings reach the pool."""

    async def main() -> None:
        async with running(server_url, queue_name, procs=1, max_jobs_per_child=2) as (
            queue,
            worker,
        ):
            for _ in range(5):
                await (await queue.add("echo", {"value": 1})).result(timeout=60)
            assert worker.counters.children_recycled >= 2

    run_async(main())


@pytest.mark.parametrize(
    "options", [{"max_jobs_per_child": 0}, {"max_rss_per_child": 0}, {"max_child_age": 0}]
)
def test_recycling_that_cannot_work_is_refused(options: dict[str, int], queue_name: str) -> None:
    """Said when the worker is made."""
    with pytest.raises(UsageError, match=next(iter(options))):
        Worker(queue_name, PROCESSOR, **options)  # type: ignore[arg-type]


_ASYNC = """
import asyncio, os

async def process(job):
    await asyncio.sleep(job.data["sleep"])
    if job.data.get("abort"):
        os.abort()
    return "done"
"""


def test_neighbours_of_a_poison_job_keep_their_only_attempt(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """In one event loop: the job that takes the child along is blamed, those beside it counted."""
    processor = tmp_path / "chores.py"
    processor.write_text(_ASYNC)

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, processor, url=server_url, procs=1, concurrency=4) as worker,
        ):
            steady = await queue.add("steady", {"sleep": 1.0})
            poison = await queue.add("poison", {"sleep": 0.2, "abort": True}, attempts=2)
            run = asyncio.create_task(worker.run())
            with pytest.raises(JobCrashed):
                await poison.result(timeout=60)
            assert await steady.result(timeout=60) == "done"
            stored = await _stored(steady)
            assert (stored.crashes, stored.attempts_made) == (0, 1)
            assert stored.extra["sq:beside"] == "2"
            assert (await _stored(poison)).crashes == 2
            worker.stop()
            await run

    run_async(main())
