"""A worker whose children are threads."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest

from sandboxq import JobFailed, JobTimeout, UsageError, Worker
from sandboxq.worker.banner import banner
from tests.worker.test_worker import with_worker

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq import Queue


def test_jobs_run_in_threads_of_the_worker(server_url: str, queue_name: str) -> None:
    """Same process, same answers; the banner says what that costs."""

    async def body(queue: Queue, worker: Worker) -> None:
        jobs = [await queue.add("job", {"do": "echo", "value": number}) for number in range(20)]
        assert [await job.result(timeout=60) for job in jobs] == list(range(20))
        assert await (await queue.add("job", {"do": "report"})).result(timeout=60) == "reported"
        text = "\n".join(banner(worker))
        assert "2 threads x 1 job at once" in text
        if getattr(sys, "_is_gil_enabled", lambda: True)():
            assert "only code that drops it" in text
        assert set(worker.pool.pids) <= {thread.native_id for thread in threading.enumerate()}

    with_worker(server_url, queue_name, body, isolation="thread", policy="none", procs=2)


_ASKS = """
import asyncio
from sandboxq import FlowProducer, Queue, QueueEvents

made_before = Queue("elsewhere")

def process(job):
    return globals()[job.data]()

def blocking():
    with Queue.sync("elsewhere") as queue:
        queue.add("lost", 1)

def of_a_loop():
    async def main():
        async with Queue("elsewhere") as queue:
            await queue.add("lost", 1)
    asyncio.run(main())

def in_a_thread():
    asyncio.run(asyncio.to_thread(blocking))

def made_at_import():
    async def main():
        async with made_before as queue:
            await queue.add("lost", 1)
    asyncio.run(main())

def flows():
    async def main():
        async with FlowProducer() as flows:
            await flows.add({"name": "lost", "queue": "elsewhere"})
    asyncio.run(main())

def events():
    async def main():
        async with QueueEvents("elsewhere") as events:
            async for _ in events:
                return
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    "way", ["blocking", "of_a_loop", "in_a_thread", "made_at_import", "flows", "events"]
)
def test_a_job_in_a_thread_that_names_no_redis_is_told_so(
    server_url: str, queue_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The embedded server of the worker's directory would silently be another Redis."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asks.py").write_text(_ASKS)

    async def body(queue: Queue, _worker: Worker) -> None:
        job = await queue.add("job", way)
        with pytest.raises(JobFailed, match="which Redis"):
            await job.result(timeout=60)

    options = {"processor": str(tmp_path / "asks.py"), "isolation": "thread", "policy": "none"}
    with_worker(server_url, queue_name, body, procs=1, **options)
    assert not (tmp_path / ".sandboxq").exists()


def test_a_job_whose_thread_goes_on_is_not_tried_again(server_url: str, queue_name: str) -> None:
    """Whatever attempts remain: the next would run beside it."""

    async def body(queue: Queue, _worker: Worker) -> None:
        job = await queue.add("job", {"do": "stay", "seconds": 2}, timeout=0.2, attempts=3)
        with pytest.raises(JobTimeout, match="not tried again"):
            await job.result(timeout=60)
        assert (await job.refresh()).attempts_made == 1
        other = await queue.add("job", {"do": "echo", "value": 1})
        assert await other.result(timeout=60) == 1

    with_worker(server_url, queue_name, body, isolation="thread", policy="none", procs=1)


def test_threads_under_a_policy_with_limits_are_refused(queue_name: str) -> None:
    """A sandbox is never silently weaker than its name."""
    with pytest.raises(UsageError, match="--policy none"):
        Worker(queue_name, "chores.py", isolation="thread")
    with pytest.raises(UsageError, match="secret"):
        Worker(
            queue_name,
            "sandboxq.functions",
            isolation="thread",
            policy="none",
            secret="s" * 32,
        )
