"""Budgets of CPU seconds: for each job anew, with all that it starts, whatever it holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sandboxq.errors import JobCancelled, UsageError
from sandboxq.model.outcome import Failed
from sandboxq.pool.watch.watches import CpuWatch
from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

CHORES = """
import subprocess, sys, time

def process(job):
    if job.data == "python":
        while True: pass
    if job.data == "gil":
        sum(range(10**12))
    if job.data == "other":
        subprocess.run([sys.executable, "-c", "while True: pass"])
    if job.data == "little":
        end = time.process_time() + 0.2
        while time.process_time() < end: pass
    if job.data == "sleep":
        time.sleep(0.7)
    return "done"
"""


def test_a_watch_outlives_a_look_that_fails(tmp_path: Path) -> None:
    """The next look is set before this one: what goes wrong with one child harms one look."""

    async def main() -> None:
        told: list[object] = []

        def end_soon(*about: object) -> None:
            told.append(about)
            if len(told) == 1:
                message = "a look that fails"
                raise RuntimeError(message)
            watch.stop()

        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        async with open_pool(processor_file(tmp_path, CHORES)) as caller:
            watch = CpuWatch(loop, caller.pool, 0.01, end_soon)
            call = caller.submit("python")
            watch.start()
            await wait_until_async(lambda: _are(told, 2))
            seen = len(told)
            caller.pool.cancel_call(call, JobCancelled("enough"), grace=0.1)
            await caller.outcome(call)
            assert len(told) == seen == 2, "a look that stops its watch is the last one"

    run_async(main())


async def _are(told: list[object], count: int) -> bool:
    return len(told) >= count


@pytest.mark.parametrize("what", ["python", "gil", "other"])
def test_a_job_that_computes_too_long_is_ended(tmp_path: Path, what: str) -> None:
    """In Python it is told, in C it is killed; what it starts counts as its own."""

    async def main() -> None:
        policy = Policy("limits", cpu_seconds=0.5)
        async with open_pool(processor_file(tmp_path, CHORES), policy=policy) as caller:
            outcome = await caller.run(what)
            assert isinstance(outcome, Failed)
            assert outcome.cause == "JobCpuExceeded"
            assert outcome.facts is not None
            assert float(outcome.facts["used"]) >= float(outcome.facts["limit"]) == 0.5
            assert await caller.value("") == "done"

    run_async(main())


_ASYNC = """
import asyncio

async def process(job):
    while True:
        if job.data == "polite": await asyncio.sleep(0)
"""


@pytest.mark.parametrize("what", ["polite", "rude"])
def test_an_async_job_that_computes_too_long_is_ended(tmp_path: Path, what: str) -> None:
    """One at a time has a budget too: told by a CancelledError, killed when it never waits."""

    async def main() -> None:
        policy = Policy("limits", cpu_seconds=0.5)
        async with open_pool(processor_file(tmp_path, _ASYNC), policy=policy) as caller:
            pids = caller.pool.pids
            failure = await caller.failure(what)
            assert failure.cause == "JobCpuExceeded"
            assert "of CPU" in failure.reason
            assert (caller.pool.pids == pids) is (what == "polite")

    run_async(main())


def test_each_job_has_the_whole_budget(tmp_path: Path) -> None:
    """What the child's jobs before have used does not count, nor does sleep."""

    async def main() -> None:
        policy = Policy("limits", cpu_seconds=0.5)
        async with open_pool(processor_file(tmp_path, CHORES), policy=policy) as caller:
            pids = caller.pool.pids
            for what in ("little", "little", "little", "little", "sleep"):
                assert await caller.value(what) == "done"
            assert caller.pool.pids == pids

    run_async(main())


def test_jobs_side_by_side_have_no_budget(tmp_path: Path) -> None:
    """Nobody can tell whose time it is, and no limit is silently dropped."""

    async def main() -> None:
        policy = Policy("limits", cpu_seconds=0.5)
        with pytest.raises(UsageError, match="cpu_seconds"):
            async with open_pool(processor_file(tmp_path, CHORES), policy=policy, concurrency=2):
                pass

    run_async(main())


def test_no_budget_is_no_number() -> None:
    """Nothing would ever run."""
    with pytest.raises(UsageError, match="cpu_seconds"):
        Policy(cpu_seconds=0)
