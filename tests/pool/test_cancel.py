"""Calls that are asked to end: by their own code, else by the kill of their child."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from sandboxq.errors import JobCancelled
from sandboxq.model.outcome import Completed, Failed
from tests.conftest import SOON, run_async, wait_until_async
from tests.pool.caller import Caller, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.pool import Call

WHY = JobCancelled("cancelled by me: no longer needed")

SYNC = """
import time

def process(job):
    what, seconds = job.data
    deadline = time.monotonic() + seconds
    assert not job.cancelled  # code that looks is left to end by itself
    job.log("begun")
    while time.monotonic() < deadline:
        time.sleep(0.005)
        if what == "look" and job.cancelled:
            return "stopped early"
        if what == "raise" and job.cancelled:
            raise ValueError("interrupted")
    return "done"
"""

ASYNC = """
import asyncio
import time

async def process(job):
    what, seconds = job.data
    job.log("begun")
    try:
        if what == "compute":
            time.sleep(seconds)
        else:
            await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if what == "swallow":
            return "swallowed"
        if what == "ignore":
            await asyncio.sleep(seconds)
        raise
    return "done"
"""


EXITING = """
import os
import time

def process(job):
    assert not job.cancelled  # as above
    job.log("begun")
    while not job.cancelled:
        time.sleep(0.005)
    os._exit(3)
"""


async def cancelled(caller: Caller, call: Call, *, grace: float = 5.0) -> Outcome:
    """Ask a call that has begun to end, and return its outcome."""
    await wait_until_async(lambda: _has_begun(caller, call))
    caller.pool.cancel_call(call, WHY, grace=grace)
    return await caller.outcome(call)


async def _has_begun(caller: Caller, call: Call) -> bool:
    return any(key == call.key for key, *_ in caller.reports)


def is_cancelled(outcome: Outcome) -> bool:
    """Tell whether a job failed for WHY, for good."""
    assert isinstance(outcome, Failed), outcome
    what = (outcome.reason, outcome.cause, outcome.is_unrecoverable)
    return what == (str(WHY), "JobCancelled", True)


@pytest.mark.parametrize("what", ["look", "raise"])
def test_code_that_looks_ends_by_itself(tmp_path: Path, what: str) -> None:
    """The child lives on, and what the code makes of it is no result and no other failure."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, SYNC)) as caller:
            pids = caller.pool.pids
            outcome = await cancelled(caller, caller.submit([what, 30]))
            assert is_cancelled(outcome)
            if what == "raise":
                assert isinstance(outcome, Failed)
                assert "ValueError: interrupted" in outcome.stack
            assert await caller.value(["look", 0.01]) == "done"
            assert caller.pool.pids == pids

    run_async(main())


def test_code_that_does_not_look_is_killed(tmp_path: Path) -> None:
    """After the grace, and not much later: it looked before, so no exception is raised in it."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, SYNC)) as caller:
            call = caller.submit(["ignore", 60])
            started = time.monotonic()
            assert is_cancelled(await cancelled(caller, call, grace=0.3))
            assert 0.3 <= time.monotonic() - started < SOON
            assert await caller.value(["look", 0]) == "done"

    run_async(main())


def test_asked_again_with_less_grace(tmp_path: Path) -> None:
    """Somebody who is in a hurry comes after somebody who was not."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, SYNC)) as caller:
            call = caller.submit(["ignore", 60])
            asyncio.get_running_loop().call_later(
                0.5, lambda: caller.pool.cancel_call(call, JobCancelled("later"), grace=0)
            )
            assert is_cancelled(await cancelled(caller, call, grace=60))

    run_async(main())


def test_work_that_was_done_all_the_same_is_kept(tmp_path: Path) -> None:
    """Code that never looked has not been disturbed: its value is as good as any."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, SYNC)) as caller:
            outcome = await cancelled(caller, caller.submit(["ignore", 0.2]))
            assert outcome == Completed(b'"done"')
            assert await caller.value(["look", 0.02]) == "done"

    run_async(main())


def test_what_was_not_started_ends_at_once(tmp_path: Path) -> None:
    """Neither a call in the reserve nor one in a child's socket is begun, and no child dies."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, SYNC)) as caller:
            pids = caller.pool.pids
            for _ in range(200):  # short runs make the pool send ahead
                await caller.value(["look", 0])
            calls = [caller.submit(["look", 0.3]) for _ in range(4)]
            for call in calls[1:]:
                caller.pool.cancel_call(call, WHY, grace=5)
            assert all([is_cancelled(await caller.outcome(call)) for call in calls[1:]])
            assert await caller.outcome(calls[0]) == Completed(b'"done"')
            assert caller.pool.pids == pids

    run_async(main())


def test_calls_behind_a_killed_one_run_elsewhere(tmp_path: Path) -> None:
    """A cancelled job takes nothing with it."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, SYNC)) as caller:
            first = caller.submit(["ignore", 60])
            others = [caller.submit(["look", 0]) for _ in range(3)]
            assert is_cancelled(await cancelled(caller, first, grace=0.05))
            outcomes = [await caller.outcome(call) for call in others]
            assert outcomes == [Completed(b'"done"')] * 3

    run_async(main())


@pytest.mark.parametrize("what", ["sleep", "swallow"])
def test_async_code_gets_cancelled_error(tmp_path: Path, what: str) -> None:
    """As everywhere in asyncio; the others in that child go on."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, ASYNC), concurrency=2) as caller:
            pids = caller.pool.pids
            other = caller.submit(["sleep", 0.5])
            assert is_cancelled(await cancelled(caller, caller.submit([what, 30])))
            assert await caller.outcome(other) == Completed(b'"done"')
            assert caller.pool.pids == pids

    run_async(main())


@pytest.mark.parametrize("what", ["ignore", "compute"])
def test_async_code_that_goes_on_is_killed(tmp_path: Path, what: str) -> None:
    """A CancelledError can be swallowed, and a loop that computes never sees it."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, ASYNC), concurrency=2) as caller:
            assert is_cancelled(await cancelled(caller, caller.submit([what, 30]), grace=0.2))
            assert await caller.value(["sleep", 0]) == "done"

    run_async(main())


def test_async_code_that_had_no_turn_yet(tmp_path: Path) -> None:
    """A task that is cancelled before its first step says nothing: its child speaks for it."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, ASYNC), concurrency=4) as caller:
            await caller.value(["sleep", 0])
            blocker = caller.submit(["compute", 0.3])
            calls = [caller.submit(["sleep", 30]) for _ in range(3)]
            await asyncio.sleep(0.1)
            for call in calls:
                caller.pool.cancel_call(call, WHY, grace=30)
            assert all([is_cancelled(await caller.outcome(call)) for call in calls])
            assert await caller.outcome(blocker) == Completed(b'"done"')

    run_async(main())


def test_a_child_that_dies_meanwhile_changes_nothing(tmp_path: Path) -> None:
    """A cancelled job is not tried again because it crashed on its way out."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, EXITING)) as caller:
            outcome = await cancelled(caller, caller.submit(None))
            assert is_cancelled(outcome)
            assert isinstance(outcome, Failed)
            assert outcome.facts is not None
            assert outcome.facts["exit_code"] == "3"

    run_async(main())
