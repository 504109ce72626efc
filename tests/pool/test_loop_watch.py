"""Jobs that keep the event loop of their child to themselves: noticed, named, alone blamed."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed, Failed, HandedBack
from sandboxq.observe.telemetry import LoopBlocked
from tests.conftest import SOON, run_async, wait_until_async
from tests.pool.caller import Caller, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_PROCESSOR = """
import asyncio, time

async def nap(seconds):
    time.sleep(seconds)

async def process(job):
    what, seconds = job.data
    if what == "nap":
        time.sleep(seconds)
    elif what == "gil":
        sum(range(10**12))
    elif what == "task":
        async with asyncio.TaskGroup() as group:
            group.create_task(nap(seconds))
    elif what == "callback":
        asyncio.get_running_loop().call_soon(time.sleep, seconds)
        await asyncio.sleep(seconds)
    elif what == "look":
        end = time.monotonic() + seconds
        while time.monotonic() < end: job.cancelled
    elif what == "busy":
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(0)
            time.sleep(0.01)
    else:
        await asyncio.sleep(seconds)
    return "done"
"""


@pytest.fixture
def processor(tmp_path: Path) -> Path:
    """Return the path of an async processor that blocks as it is told."""
    return processor_file(tmp_path, _PROCESSOR)


def blocks(caller: Caller) -> list[LoopBlocked]:
    """Return what was said of blocked loops."""
    return [event for event in caller.events if isinstance(event, LoopBlocked)]


@pytest.mark.parametrize("what", ["nap", "gil", "task", "look", "callback"])
def test_a_blocked_loop_is_noticed_and_its_job_named(processor: Path, what: str) -> None:
    """Within about a second, whatever holds it; a callback belongs to no task."""

    async def main() -> None:
        async with open_pool(processor, concurrency=4) as caller:
            await caller.value(["sleep", 0])
            await caller.until_begun(caller.submit(["sleep", 100]))
            call = caller.submit([what, 100])

            async def is_said() -> bool:
                return bool(blocks(caller))

            # After 1 s on a machine that does nothing else, and long before the block ends.
            await wait_until_async(is_said)
            assert call.key not in caller.outcomes
            event = blocks(caller)[0]
            assert event.pid == caller.pool.pids[0]
            assert event.job_id == ("" if what == "callback" else call.key.decode())
            assert event.waiting == (2 if what == "callback" else 1)
            assert ("chores.py" in event.stack) is (what != "callback")
            await asyncio.sleep(0.5)
            assert len(blocks(caller)) == 1
            caller.pool.kill()

    run_async(main())


def test_a_loop_that_turns_is_not_accused(processor: Path) -> None:
    """Not one that is busy all the time, nor one that only waits."""

    async def main() -> None:
        async with open_pool(processor, concurrency=4) as caller:
            calls = [caller.submit(["busy", 2]) for _ in range(3)] + [caller.submit(["sleep", 2])]
            assert all([isinstance(await caller.outcome(call), Completed) for call in calls])
            assert not blocks(caller)

    run_async(main())


@pytest.mark.parametrize("what", ["nap", "gil"])
def test_who_blocks_when_a_deadline_passes_is_ended(processor: Path, what: str) -> None:
    """The job whose time is up could not be told: it goes back, as all that were beside it."""

    async def main() -> None:
        async with open_pool(processor, concurrency=4) as caller:
            await caller.value(["sleep", 0])
            steady = caller.submit(["sleep", 20])
            late = caller.submit(["sleep", 20], timeout=0.4)
            await caller.until_begun(steady, late)
            started = time.monotonic()
            failure = await caller.failure([what, 100])
            assert time.monotonic() - started < SOON
            assert failure.cause == "JobBlockedLoop"
            assert "blocked the event loop" in failure.reason
            assert failure.facts is not None
            assert float(failure.facts["elapsed"]) >= 1
            for call in (steady, late):
                assert await caller.outcome(call) == HandedBack(was_started=True, is_neighbour=True)
            assert await caller.value(["sleep", 0]) == "done"

    run_async(main())


def test_a_deadline_waits_for_a_short_block(processor: Path) -> None:
    """Nobody is killed for half a second: the job whose time is up is told then."""

    async def main() -> None:
        async with open_pool(processor, concurrency=4) as caller:
            pids = caller.pool.pids
            late = caller.submit(["sleep", 20], timeout=0.1)
            await caller.until_begun(late)
            assert await caller.value(["nap", 0.4]) == "done"
            outcome = await caller.outcome(late)
            assert isinstance(outcome, Failed)
            assert outcome.cause == "JobTimeout"
            assert outcome.facts is not None
            assert outcome.facts["end"] == "soft"
            assert caller.pool.pids == pids

    run_async(main())


def test_a_block_may_be_limited_without_any_deadline(processor: Path) -> None:
    """With max_block one job cannot keep others waiting for ever."""

    async def main() -> None:
        async with open_pool(processor, concurrency=4, max_block=1.5) as caller:
            steady = caller.submit(["sleep", 20])
            await caller.until_begun(steady)
            failure = await caller.failure(["gil", 20])
            assert failure.cause == "JobBlockedLoop"
            assert await caller.outcome(steady) == HandedBack(was_started=True, is_neighbour=True)

    run_async(main())


def test_the_clock_runs_from_the_begin_in_the_loop(processor: Path) -> None:
    """Not from when a call was sent: what waited behind a step of another job is not charged."""

    async def main() -> None:
        async with open_pool(processor, concurrency=4) as caller:
            await caller.value(["sleep", 0])
            first = caller.submit(["nap", 0.9])
            second = caller.submit(["sleep", 0.05], timeout=0.9)
            assert await caller.outcome(first) == Completed(b'"done"')
            assert await caller.outcome(second) == Completed(b'"done"')

    run_async(main())
