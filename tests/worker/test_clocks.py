"""Wrong clocks: what is due goes by the server's clock, and it is said."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandboxq import Backoff, Queue, Repeat, Worker
from sandboxq.model.clock import Clock
from tests.conftest import run_async

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")
HOUR_MS = 3_600_000
# The server and the tests' machine are one: their clocks are the same.
TOLERANCE_MS = 5_000


class WrongClock(Clock):
    """A wall clock that is so far ahead."""

    def __init__(self, ahead_ms: int) -> None:
        """Keep it."""
        self._ahead_ms = ahead_ms

    def now_ms(self) -> int:
        """Return the wrong time."""
        return super().now_ms() + self._ahead_ms


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _has_completed(queue: Queue, number: int) -> bool:
    return (await queue.counts())["completed"] == number


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
def test_a_worker_with_a_wrong_clock_runs_what_is_due_and_nothing_else(
    server_url: str, queue_name: str, ahead_ms: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An hour ahead it ran what was to run in ten minutes, an hour behind nothing for an hour."""

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(
                queue_name, PROCESSOR, url=server_url, procs=1, clock=WrongClock(ahead_ms)
            ) as worker,
        ):
            run = asyncio.create_task(worker.run())
            later = await queue.add("echo", {}, delay=600)
            soon = await queue.add("echo", {"value": 1}, delay=1)
            again = await queue.add(
                "fail", {"do": "fail-until", "times": 1}, attempts=2, backoff=Backoff.fixed(1)
            )
            tick = await queue.upsert_scheduler("s", Repeat(every=600), name="echo")
            assert await soon.result(timeout=60) == 1
            await again.result(timeout=60)
            await tick.result(timeout=60)
            assert await later.state() == "delayed"

            found = await queue.get_job(soon.id)
            assert found is not None
            assert found.finished_on_ms is not None
            assert abs(found.finished_on_ms - _now_ms()) < 60_000
            scheduler = await queue.get_scheduler("s")
            assert scheduler is not None
            assert scheduler.next_ms is not None
            assert scheduler.next_ms - _now_ms() <= 600_000 + TOLERANCE_MS
            worker.stop()
            await run

    run_async(main())
    way = "ahead of" if ahead_ms > 0 else "behind"
    assert f"clock is 3600.0 s {way} that of Redis" in caplog.text


def test_a_producer_with_a_wrong_clock_delays_by_the_servers(
    server_url: str, queue_name: str
) -> None:
    """A delay of a second is one, whoever asks for it."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url, clock=WrongClock(HOUR_MS)) as queue:
            job = await queue.add("echo", {}, delay=60)
            assert abs(job.timestamp_ms - _now_ms()) < TOLERANCE_MS
            broker = await queue._connected()
            (_, score) = await broker.command("ZRANGE", queue.keys["delayed"], 0, 0, "WITHSCORES")
            assert abs(int(float(score)) // 4096 - 60_000 - _now_ms()) < TOLERANCE_MS

    run_async(main())


def test_a_clock_that_is_set_while_the_worker_runs(server_url: str, queue_name: str) -> None:
    """NTP corrects a clock in one step: the comparison from before would be an hour wrong."""

    async def main() -> None:
        clock = WrongClock(0)
        async with Queue(queue_name, url=server_url, clock=clock) as queue:
            assert abs((await queue.add("echo", {})).timestamp_ms - _now_ms()) < TOLERANCE_MS
            clock._ahead_ms = HOUR_MS
            assert abs((await queue.add("echo", {})).timestamp_ms - _now_ms()) < TOLERANCE_MS
            clock._ahead_ms = -HOUR_MS
            assert abs((await queue.add("echo", {})).timestamp_ms - _now_ms()) < TOLERANCE_MS

    run_async(main())


@pytest.mark.skipif(shutil.which("faketime") is None, reason="needs faketime")
def test_doctor_tells_of_a_wrong_clock(server_url: str) -> None:
    """It is where people look when jobs run at the wrong time."""
    command = ["faketime", "-f", "+90s", sys.executable, "-m", "sandboxq", "doctor", "--json"]
    environment = {**os.environ, "SANDBOXQ_URL": server_url, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    redis = json.loads(out.stdout)["redis"]
    assert not redis["ok"]
    assert "ahead of that of Redis" in redis["detail"]
