"""Cancelling jobs from anywhere: the worker that runs them hears it through Redis."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import CancelNotHeard, JobCancelled, Queue, UsageError, Worker
from sandboxq.errors import JobNotFound, JobNotInState
from tests.conftest import SOON, Gate, run_async, wait_until_async
from tests.worker.test_worker import PROCESSOR, running, with_worker

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.queue.job import QueuedJob

UNTIL_CANCELLED = {"do": "until-cancelled", "seconds": 60}
ASLEEP = {"do": "sleep", "seconds": 60}


async def begun(queue: Queue, data: dict[str, Any], **options: Any) -> QueuedJob:
    """Add a job and wait until its code is being run."""
    with tempfile.TemporaryDirectory() as folder:
        mark = f"{folder}/begun"
        job = await queue.add("job", {**data, "begun": mark}, **options)

        async def has_begun() -> bool:
            return os.path.exists(mark)  # noqa: PTH110, ASYNC240 - memory, no disk

        await wait_until_async(has_begun)
    return job


def test_a_running_job_ends_by_itself(server_url: str, queue_name: str) -> None:
    """Code that looks at `job.cancelled` tidies up; the job fails, and is not tried again."""

    async def main() -> None:
        async with (
            running(server_url, queue_name, name="one") as (queue, first),
            running(server_url, queue_name, name="two") as (_, second),
        ):
            job = await begun(queue, UNTIL_CANCELLED, attempts=5)
            pids = first.pool.pids + second.pool.pids
            worker = await queue.cancel(job.id, "no longer needed")
            assert worker in {"one", "two"}
            assert worker == (await job.refresh()).processed_by
            with pytest.raises(
                JobCancelled, match=rf"^cancelled by \S+:{os.getpid()}: no longer needed \("
            ):
                await job.result(timeout=60)
            stored = await job.refresh()
            assert (stored.attempts_made, stored.cause) == (1, "JobCancelled")
            assert first.pool.pids + second.pool.pids == pids

    run_async(main())


def test_a_job_that_does_not_listen_is_killed(server_url: str, queue_name: str) -> None:
    """And its neighbour in the other child goes on."""

    async def body(queue: Queue, _worker: Worker) -> None:
        neighbour = await begun(queue, {"do": "sleep", "seconds": 1})
        job = await begun(queue, {"do": "stay", "seconds": 600})
        started = time.monotonic()
        await job.cancel(grace=0.2)
        with pytest.raises(JobCancelled, match=r"^cancelled by \S+:\d+ \("):
            await job.result(timeout=60)
        assert 0.2 <= time.monotonic() - started < SOON
        assert await neighbour.result(timeout=60) == "slept"

    with_worker(server_url, queue_name, body)


def test_jobs_that_have_not_begun_fail_at_once(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """In Redis, in the pool, or in a child's socket: no child is killed for them."""
    gate = Gate(tmp_path)

    async def body(queue: Queue, worker: Worker) -> None:
        pids = worker.pool.pids
        busy = [await begun(queue, {"do": "sleep", "until": gate.path}) for _ in range(2)]
        jobs = [await queue.add("echo", {}) for _ in range(5)]
        delayed = await queue.add("echo", {}, delay=60)
        for job in [*jobs, delayed]:
            assert await queue.cancel(job.id) in {None, worker.name}
            with pytest.raises(JobCancelled):
                await job.result(timeout=60)
        gate.open()
        assert [await job.result(timeout=60) for job in busy] == ["slept"] * 2
        assert worker.pool.pids == pids

    with_worker(server_url, queue_name, body)


def test_nothing_to_cancel(server_url: str, queue_name: str) -> None:
    """Whoever comes too late, or asks for nonsense, is told."""

    async def body(queue: Queue, _worker: Worker) -> None:
        job = await queue.add("echo", {})
        await job.result(timeout=60)
        with pytest.raises(JobNotInState, match="completed"):
            await queue.cancel(job.id)
        with pytest.raises(JobNotFound):
            await queue.cancel("nobody")
        for wrong in ({"job_id": ""}, {"job_id": "1", "grace": -1}, {"job_id": "1", "reason": ""}):
            with pytest.raises(UsageError):
                await queue.cancel(**wrong)

    with_worker(server_url, queue_name, body)


def test_a_job_whose_worker_died_cannot_hear(server_url: str, queue_name: str) -> None:
    """The stalled check will find it; until then the caller knows that nobody listened."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            job = await queue.add("echo", {})
            async with Worker(queue_name, PROCESSOR, url=server_url, procs=1) as worker:
                keys, broker = worker.keys, worker.broker
                await broker.command("RPOPLPUSH", keys["wait"], keys["active"])
                started = time.monotonic()
                with pytest.raises(CancelNotHeard, match=f"job {job.id} "):
                    await queue.cancel(job.id)
                assert time.monotonic() - started < SOON

    run_async(main())


def test_a_cancelled_job_does_not_come_back_when_its_worker_stops(
    server_url: str, queue_name: str
) -> None:
    """Stopping hands back what runs, but not what somebody wanted to end."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            async with Worker(
                queue_name, PROCESSOR, url=server_url, procs=2, shutdown_timeout=0.1
            ) as worker:
                run = asyncio.create_task(worker.run())
                job, other = await begun(queue, ASLEEP), await begun(queue, ASLEEP)
                assert await queue.cancel(job.id, grace=60) == worker.name
                worker.stop()
                await asyncio.wait_for(run, 10)
            assert await job.state() == "failed"
            assert (await job.refresh()).cause == "JobCancelled"
            assert await other.state() == "waiting"

    run_async(main())


def test_a_worker_cancels_what_it_has(server_url: str, queue_name: str) -> None:
    """As Node's `cancelJob` and `cancelAllJobs`: the reason is the failure's text."""

    async def body(queue: Queue, worker: Worker) -> None:
        jobs = [await begun(queue, UNTIL_CANCELLED) for _ in range(2)]
        assert not worker.cancel("nobody")
        assert worker.cancel(jobs[0].id, "first")
        with pytest.raises(JobCancelled, match=r"^first \("):
            await jobs[0].result(timeout=60)
        assert worker.cancel_all("the rest") == [jobs[1].id]
        with pytest.raises(JobCancelled, match=r"^the rest \("):
            await jobs[1].result(timeout=60)

    with_worker(server_url, queue_name, body)


# What else may be asked, with what belongs to it: none of these is for the job that runs.
WRONG: list[Any] = [[], {}, None, True, -1, 1e308, "", "x" * 1000]
REQUESTS: dict[str, dict[str, Any]] = {
    "facts": {"seconds": 1, "of": "job", "target": "0"},
    "tell": {"job_id": "0", "text": "hello"},
    "profile": {"job_id": "0", "id": "p", "how": "100 cpu", "seconds": 1},
    "dump": {"target": "0"},
}


def test_nonsense_on_the_channel_disturbs_nobody(
    server_url: str, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody who reaches Redis may publish; the answer is written to no key but those for it."""

    async def body(queue: Queue, worker: Worker) -> None:
        job = await begun(queue, UNTIL_CANCELLED)
        asked = {"ask": "cancel", "job_id": "0", "reason": "", "grace": 1}
        asked["reply_key"] = worker.keys.reply_key("x")
        for message in (
            "no json",
            "[]",
            '{"ask":"cancel"}',
            json.dumps({"ask": "cancel", "job_id": job.id, "reason": "", "grace": "x"}),
            json.dumps({"ask": "cancel", "job_id": 7, "reason": "", "grace": 1, "reply_key": "k"}),
            json.dumps({"ask": "scale", "procs": 10**9, "reply_key": "k"}),
            json.dumps({"ask": "dance", "reply_key": "k"}),
            "[" * 100_000,
            json.dumps({**asked, "grace": 10**400}),
            json.dumps({**asked, "job_id": [0.5]}),
            json.dumps({**asked, "job_id": "\ud800"}),
            json.dumps({**asked, "ask": "dump", "target": "\ud800"}),
            json.dumps({**asked, "reply_key": worker.keys["wait"]}),
            json.dumps({**asked, "reply_key": worker.keys.reply_key("\ud800")}),
            json.dumps({**asked, "ask": "scale", "procs": 10**400}),
            *(
                json.dumps({**asked, "ask": ask, **right, name: wrong})
                for ask, right in REQUESTS.items()
                for name in right
                for wrong in WRONG
            ),
        ):
            await worker.broker.command("PUBLISH", worker.keys.control_channel, message)
        assert await queue.cancel(job.id) == worker.name
        assert (await queue.counts())["waiting"] == 0
        assert "crashed" not in caplog.text
        assert not [each for each in worker._services if each._task is None or each._task.done()]

    with_worker(server_url, queue_name, body)


def test_from_the_command_line(server_url: str, queue_name: str) -> None:
    """An operator's way, in words and in JSON."""

    def sandboxq(*arguments: str) -> str:
        command = [sys.executable, "-m", "sandboxq", *arguments, "--url", server_url]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    async def body(queue: Queue, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        job = await begun(queue, UNTIL_CANCELLED)
        said = await loop.run_in_executor(
            None, sandboxq, "cancel", queue_name, job.id, "--reason", "wrong photo"
        )
        assert worker.name in said
        with pytest.raises(JobCancelled, match="wrong photo"):
            await job.result(timeout=60)
        delayed = await queue.add("echo", {}, delay=60)
        said = await loop.run_in_executor(
            None, sandboxq, "cancel", queue_name, delayed.id, "--json"
        )
        assert json.loads(said) == {"job_id": delayed.id, "worker": None}

    with_worker(server_url, queue_name, body)
