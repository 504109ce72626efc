"""Processors that are `async def`: several jobs at once in one child."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import (
    Completed,
    Failed,
    HandedBack,
    Interrupted,
)
from sandboxq.pool.watch.recycler import Recycling
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import lives, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_CHORES = """
import asyncio, os, sys
running = most = 0
ready = False

async def setup():
    global ready
    await asyncio.sleep(0)
    ready = True

async def fall():
    await asyncio.sleep(0)
    os.abort()

async def process(job):
    global running, most
    assert ready
    running += 1
    most = max(most, running)
    try:
        print("begin", job.id)
        await asyncio.sleep(job.data.get("sleep", 0))
        print("end", job.id)
        if job.data.get("fail"): raise ValueError("bad")
        if job.data.get("exit"): sys.exit(1)
        if job.data.get("abort"): os.abort()
        if job.data.get("leave"): os._exit(3)
        if job.data.get("memory"): raise MemoryError
        if job.data.get("task"): await asyncio.gather(fall())
        if job.data.get("cancel"): raise asyncio.CancelledError
        return most
    finally:
        running -= 1
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of an async processor."""
    return processor_file(tmp_path, _CHORES)


def test_one_child_runs_as_many_jobs_as_it_may(chores: Path) -> None:
    """Concurrency is the only reason to write `async def`; more than it is a broken promise."""

    async def main() -> None:
        async with open_pool(chores, concurrency=4) as caller:
            assert caller.pool.room() == 4
            started = time.monotonic()
            calls = [caller.submit({"sleep": 0.2}) for _ in range(8)]
            outcomes = [await caller.outcome(call) for call in calls]
            assert time.monotonic() - started >= 0.4
            assert outcomes[-1] == Completed(b"4")

    run_async(main())


def test_lines_belong_to_the_job_that_printed_them(chores: Path) -> None:
    """Jobs interleave in one process; their logs must not."""

    async def main() -> None:
        async with open_pool(chores, concurrency=4) as caller:
            calls = [caller.submit({"sleep": 0.05}) for _ in range(4)]
            for call in calls:
                await caller.outcome(call)
            for key, _, line in caller.lines:
                assert key is not None
                assert line.split()[1] == key.decode()
            assert len(caller.lines) == 8

    run_async(main())


def test_every_way_to_fail_leaves_the_others_alone(chores: Path) -> None:
    """SystemExit and CancelledError end an event loop unless they are caught."""

    async def main() -> None:
        async with open_pool(chores, concurrency=4) as caller:
            steady = caller.submit({"sleep": 0.3})
            for way in ("fail", "exit", "cancel"):
                assert isinstance(await caller.run({way: 1}), Failed)
            assert isinstance(await caller.outcome(steady), Completed)
            assert len(caller.pool.pids) == 1

    run_async(main())


def test_a_death_while_all_wait_is_nobodys_fault(chores: Path) -> None:
    """It uses no attempt of any, but is counted for each; what was in the socket it was not."""

    async def main() -> None:
        async with open_pool(chores, concurrency=2) as caller:
            for _ in range(60):
                await caller.run({})
            running = [caller.submit({"sleep": 60}) for _ in range(2)]
            waiting = [caller.submit({}) for _ in range(3)]
            await caller.until_begun(*running)
            os.kill(caller.pool.pids[0], signal.SIGKILL)
            for call in running:
                outcome = await caller.outcome(call)
                assert isinstance(outcome, Interrupted)
                assert outcome.failure.is_crash
            for call in waiting:
                assert isinstance(await caller.outcome(call), Completed)

    run_async(main())


@pytest.mark.parametrize("way", ["abort", "leave", "task", "memory"])
def test_who_takes_the_child_along_is_blamed_alone(chores: Path, way: str) -> None:
    """Its neighbours go back, and it is counted that they were beside it."""

    async def main() -> None:
        async with open_pool(chores, concurrency=4) as caller:
            neighbours = [caller.submit({"sleep": 60}) for _ in range(3)]
            await caller.until_begun(*neighbours)
            failure = await caller.failure({"sleep": 0.05, way: 1})
            assert failure.is_crash
            for call in neighbours:
                assert await caller.outcome(call) == HandedBack(was_started=True, is_neighbour=True)

    run_async(main())


_LEAVES_A_CONNECTION = """
import asyncio, socket, warnings
warnings.simplefilter("error", ResourceWarning)
kept = []
async def process(job):
    ends = socket.socketpair()
    kept.extend((await asyncio.open_connection(sock=ends[0]), ends[1]))
"""


def test_connections_that_jobs_leave_do_not_keep_a_child_from_leaving(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where warnings are errors uvloop waited for ever, until the child was killed."""
    path = processor_file(tmp_path, _LEAVES_A_CONNECTION)

    async def main() -> None:
        recycling = Recycling(max_jobs=1)
        async with open_pool(path, recycling=recycling) as caller:
            pid = caller.pool.pids[0]
            await caller.value()

            async def has_left() -> bool:
                return not lives(pid)

            await wait_until_async(has_left)

    run_async(main())
    assert "teardown" not in caplog.text
