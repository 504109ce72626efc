"""Ends that the coordinator asks for: timeouts, cancelling; and what cannot be ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from sandboxq.errors import JobCancelled
from sandboxq.model.outcome import Completed, Failed
from sandboxq.pool.children.circuit import CircuitState
from sandboxq.pool.kinds import Kind
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import processor_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.contract.conftest import Open

_CHORES = """
import time

def process(job):
    if job.data.get("stay"):
        assert not job.cancelled
        time.sleep(job.data["stay"])
        return "stayed"
    deadline = time.monotonic() + job.data.get("seconds", 0)
    while time.monotonic() < deadline:
        if job.cancelled:
            return "tidied up"
        time.sleep(0.01)
    return "done"
"""
_ASYNC = """
import asyncio, time

async def process(job):
    if job.data.get("block"):
        time.sleep(job.data["block"])
    await asyncio.sleep(job.data.get("seconds", 0))
    return "done"
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of a plain processor."""
    return processor_file(tmp_path, _CHORES)


def test_code_that_looks_ends_on_time_and_its_child_goes_on(open_kind: Open, chores: Path) -> None:
    """A timeout is a failed attempt like any other when the code has ended."""

    async def main() -> None:
        async with open_kind(chores) as caller:
            pids = caller.pool.pids
            failure = await caller.failure({"seconds": 20}, timeout=0.2)
            assert failure.cause == "JobTimeout"
            assert not failure.is_unrecoverable
            assert (failure.facts or {})["end"] == "soft"
            assert await caller.value({}) == "done"
            assert caller.pool.pids == pids

    run_async(main())


def test_code_that_looks_can_be_cancelled(open_kind: Open, chores: Path) -> None:
    """It fails as JobCancelled, for good; what it returned is dropped."""

    async def main() -> None:
        async with open_kind(chores) as caller:
            call = caller.submit({"seconds": 20})
            await caller.until_begun(call)
            caller.pool.cancel_call(call, JobCancelled("enough"), grace=5)
            outcome = await caller.outcome(call)
            assert isinstance(outcome, Failed)
            assert (outcome.cause, outcome.is_unrecoverable) == ("JobCancelled", True)
            assert await caller.value({}) == "done"

    run_async(main())


def test_async_jobs_are_cancelled_one_by_one(open_kind: Open, tmp_path: Path) -> None:
    """CancelledError in the one; its neighbours notice nothing."""
    chores = processor_file(tmp_path, _ASYNC)

    async def main() -> None:
        async with open_kind(chores, concurrency=3) as caller:
            late = caller.submit({"seconds": 20}, timeout=0.2)
            cancelled = caller.submit({"seconds": 20})
            other = caller.submit({"seconds": 0.5})
            await caller.until_begun(cancelled)
            caller.pool.cancel_call(cancelled, JobCancelled("enough"), grace=5)
            for call, cause in ((late, "JobTimeout"), (cancelled, "JobCancelled")):
                outcome = await caller.outcome(call)
                assert isinstance(outcome, Failed)
                assert outcome.cause == cause
            assert isinstance(await caller.outcome(other), Completed)

    run_async(main())


def test_what_does_not_end_fails_on_time_and_another_child_goes_on(
    kind: Kind, open_kind: Open, chores: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process is killed. A thread cannot be: it is given up, said so, and never run beside."""

    async def is_told() -> bool:
        return "its code still runs" in caplog.text

    async def main() -> None:
        async with open_kind(chores) as caller:
            failure = await caller.failure({"stay": 2.5}, timeout=0.2)
            assert failure.cause == "JobTimeout"
            await wait_until_async(lambda: _has_room(caller.pool.room))
            assert await caller.value({}) == "done"
            if kind is Kind.PROCESS:
                assert (failure.facts or {})["end"] == "hard"
                assert not failure.is_unrecoverable
                return
            assert (failure.facts or {})["end"] == "abandoned"
            assert failure.is_unrecoverable
            await wait_until_async(is_told)
            await _wait_for_the_abandoned(caplog)

    with caplog.at_level(logging.WARNING, "sandboxq.pool"):
        run_async(main())


def test_too_many_that_cannot_be_ended_open_the_circuit(
    kind: Kind, open_kind: Open, chores: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As many threads may be given up as there are children; then nothing is claimed."""
    if kind is Kind.PROCESS:
        pytest.skip("a process can be killed")

    async def main() -> None:
        async with open_kind(chores) as caller:
            first = caller.submit({"stay": 6}, timeout=0.1)
            await caller.outcome(first)
            await wait_until_async(lambda: _has_room(caller.pool.room))
            second = caller.submit({"stay": 4}, timeout=0.1)
            await caller.outcome(second)

            async def is_open() -> bool:
                return caller.pool.circuit.state is not CircuitState.CLOSED

            await wait_until_async(is_open)
            assert "given up" in caplog.text
            await wait_until_async(lambda: _has_room(caller.pool.room))
            assert await caller.value({}) == "done"  # once one of them has ended
            await _wait_for_the_abandoned(caplog, 2)

    with caplog.at_level(logging.WARNING, "sandboxq.pool"):
        run_async(main())


def test_a_blocked_loop_is_given_up_with_all_its_jobs(
    kind: Kind, open_kind: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those beside the one to blame may go on too, so that they are not run again in silence."""
    if kind is Kind.PROCESS:
        pytest.skip("a process is killed with all its jobs, which go back: see tests/pool")
    chores = processor_file(tmp_path, _ASYNC)

    async def main() -> None:
        async with open_kind(chores, concurrency=2) as caller:
            beside = caller.submit({"seconds": 1.5})
            await caller.until_begun(beside)
            blocking = caller.submit({"block": 2.5}, timeout=0.1)
            outcomes = [await caller.outcome(call) for call in (blocking, beside)]
            assert [type(outcome) for outcome in outcomes] == [Failed, Failed]
            causes = [outcome.cause for outcome in outcomes if isinstance(outcome, Failed)]
            assert causes == ["JobTimeout", "JobCrashed"]
            assert await caller.value({}) == "done"
            await _wait_for_the_abandoned(caplog)

    with caplog.at_level(logging.WARNING, "sandboxq.pool"):
        run_async(main())


async def _has_room(room: Callable[[], int]) -> bool:
    return room() > 0


async def _wait_for_the_abandoned(caplog: pytest.LogCaptureFixture, count: int = 1) -> None:
    """Wait until the threads that were given up have ended: the test leaves none behind."""

    async def is_over() -> bool:
        return caplog.text.count("which was given up, has ended") == count

    await wait_until_async(is_over)
