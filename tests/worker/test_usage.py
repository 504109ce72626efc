"""Accounting: what a job has used, on the job, in events, and in the queue's totals."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import redis

from sandboxq import Queue, Worker
from sandboxq.broker.commands.batches import Mark
from sandboxq.broker.commands.settings import add_usage, read_usage
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.model.job import UsageTotals
from sandboxq.observe.telemetry import (
    AttemptFailed,
    Event,
    JobCompleted,
    JobsSettled,
    Telemetry,
)
from tests.conftest import SOON, run_async, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sandboxq.model.job import Usage
    from sandboxq.queue.job import QueuedJob

_CHORES = """
import os, signal, subprocess, sys, time
def process(job):
    d = job.data
    end = time.process_time() + d.get("burn", 0)
    while time.process_time() < end: pass
    time.sleep(d.get("sleep", 0))
    block = bytearray(d.get("mb", 0) << 20)
    for i in range(0, len(block), 4096): block[i] = 1
    if "program" in d:
        code = f"import time\\nwhile time.process_time() < {d['program']}: pass"
        subprocess.run([sys.executable, "-c", code])
    if "raise" in d: raise ValueError("no")
    if "kill" in d: os.kill(os.getpid(), signal.SIGKILL)
"""


@contextlib.asynccontextmanager
async def _at_work(
    url: str, queue_name: str, folder: Path, telemetry: Telemetry | None = None
) -> AsyncIterator[Queue]:
    path = folder / "chores.py"
    path.write_text(_CHORES)
    async with (
        Queue(queue_name, url=url) as queue,
        Worker(queue_name, str(path), url=url, procs=1, telemetry=telemetry) as worker,
    ):
        run = asyncio.create_task(worker.run())
        yield queue
        worker.stop()
        await run


async def _used(queue: Queue, data: dict[str, Any]) -> Usage:
    job = await queue.add("chore", data)
    with contextlib.suppress(Exception):
        await job.result(timeout=60)
    return await _usage_of(queue, job)


async def _usage_of(queue: Queue, job: QueuedJob) -> Usage:
    stored = await queue.get_job(job.id)
    assert stored is not None
    assert stored.usage is not None
    return stored.usage


def test_each_job_is_charged_what_it_used(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Time, CPU and memory of one job are not those of the one before it in the same child."""

    async def main() -> None:
        async with _at_work(server_url, queue_name, tmp_path) as queue:
            await _used(queue, {})
            busy = await _used(queue, {"burn": 0.3})
            idle = await _used(queue, {"sleep": 0.3})
            large = await _used(queue, {"mb": 150})
            small = await _used(queue, {})
            program = await _used(queue, {"program": 0.3})
        assert busy.cpu_user + busy.cpu_system == pytest.approx(0.3, abs=0.1)
        assert busy.wall >= 0.29
        assert 0.29 <= idle.wall < SOON
        assert idle.cpu_user + idle.cpu_system < 0.15
        assert large.peak_rss > 150 << 20
        assert small.peak_rss < 100 << 20
        assert program.cpu_user + program.cpu_system > 0.28

    run_async(main())


def test_failures_and_deaths_are_charged_too(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """The job that ate a minute and died is the one whose costs people look for."""

    async def main() -> None:
        async with _at_work(server_url, queue_name, tmp_path) as queue:
            await _used(queue, {"burn": 0.2})
            raised = await _used(queue, {"burn": 0.2, "raise": 1})
            killed = await _used(queue, {"burn": 0.2, "kill": 1, "mb": 150})
        assert raised.cpu_user + raised.cpu_system == pytest.approx(0.2, abs=0.1)
        assert killed.cpu_user + killed.cpu_system == pytest.approx(0.25, abs=0.15)
        assert killed.peak_rss > 150 << 20
        assert killed.wall >= 0.19

    run_async(main())


def test_totals_of_a_queue_outlive_its_workers(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """`stats --usage` adds up what all workers have told; obliterating forgets it."""

    async def main() -> None:
        for _ in range(2):
            async with _at_work(server_url, queue_name, tmp_path) as queue:
                for _ in range(4):
                    await _used(queue, {"burn": 0.05})
                await _used(queue, {"kill": 1})
        async with Queue(queue_name, url=server_url) as queue:
            totals = await queue.usage()
            assert (totals.attempts, totals.crashes) == (10, 2)
            assert totals.cpu_user + totals.cpu_system == pytest.approx(0.4, abs=0.2)
            assert totals.wall > 0.39
            assert totals.peak_rss > 1 << 20
            await queue.obliterate(force=True)
            assert (await queue.usage()).attempts == 0

    run_async(main())


def test_events_say_it(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Metrics are made of events, not of reads."""
    events: list[Event] = []
    telemetry = Telemetry()
    telemetry.subscribe(events.append, JobCompleted, AttemptFailed, JobsSettled)

    async def main() -> None:
        async with _at_work(server_url, queue_name, tmp_path, telemetry) as queue:
            await _used(queue, {"burn": 0.05})
            await _used(queue, {"kill": 1})

    run_async(main())
    completed = next(event for event in events if isinstance(event, JobCompleted))
    failed = next(event for event in events if isinstance(event, AttemptFailed))
    assert completed.usage is not None
    assert completed.usage.cpu_user + completed.usage.cpu_system > 0.04
    assert (failed.cause, failed.usage is not None) == ("JobCrashed", True)
    totals = [event.usage for event in events if isinstance(event, JobsSettled)]
    assert sum(total.attempts for total in totals) == 2
    assert sum(total.crashes for total in totals) == 1


def test_totals_that_redis_refuses_are_written_when_it_takes_them(
    server_url: str, queue_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A key of another type, or a missing permission, comes right again."""
    key = QueueKeys(queue_name).usage_key

    async def is_told() -> bool:
        return "cannot be written yet" in caplog.text

    async def main() -> None:
        with redis.Redis.from_url(server_url) as client:
            client.set(key, "no hash")
            async with _at_work(server_url, queue_name, tmp_path) as queue:
                await _used(queue, {})
                await wait_until_async(is_told)
                client.delete(key)
            async with Queue(queue_name, url=server_url) as queue:
                assert (await queue.usage()).attempts == 1

    run_async(main())


def test_one_spoilt_total_has_the_others_added_once(server_url: str, queue_name: str) -> None:
    """What was added before it met the spoilt one was added again with each try."""
    keys = QueueKeys(queue_name)

    async def main() -> UsageTotals:
        broker = await Broker.connect(server_url)
        try:
            await broker.command("HSET", keys.usage_key, "wall", "abc", "user", 2**63 - 1)
            for _ in range(2):
                mark = Mark(keys.mark_key("x"), 1)
                await add_usage(broker, keys, UsageTotals(3, 1, 2.0, 2.0, 2.0, 5), mark=mark)
            return await read_usage(broker, keys)
        finally:
            await broker.close()

    found = run_async(main())
    assert (found.attempts, found.crashes, found.cpu_system, found.peak_rss) == (3, 1, 2.0, 5)
