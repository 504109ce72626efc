"""How much one job may say: what is above is dropped or refused, and the job or its log says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from sandboxq.model.job_limits import Budgets
from sandboxq.model.outcome import Completed
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.pool.caller import Caller

_CHORES = """
from sandboxq.errors import RateLimitError

def process(job):
    what, count, size = job.data
    for number in range(count):
        if what == "log": job.log("x" * size)
        if what == "progress": job.update_progress("x" * size)
        if what == "data": job.update_data("x" * size)
        if what == "print": print("x" * size)
    if what == "fail": raise ValueError("x" * size)
    if what == "limit": raise RateLimitError(size)
    return "done"
"""
_ASYNC = """
import asyncio

async def process(job):
    asked = [job.children_values() for _ in range(job.data)]
    values = await asyncio.gather(*asked, return_exceptions=True)
    return len(values)
"""
_SMALL = Budgets(
    reports=20, report_bytes=5000, lines=30, questions=2, failure_text=1000, rate_limit=10.0
)
_POLICIES = pytest.mark.parametrize("policy", ["none", "limits", "strict"])


@_POLICIES
@pytest.mark.parametrize("what", ["log", "progress"])
@pytest.mark.parametrize(("count", "size", "kept"), [(100, 10, 20), (100, 1100, 4), (20, 10, 20)])
def test_reports_above_the_budget_are_dropped_and_counted(
    tmp_path: Path, policy: str, what: str, count: int, size: int, kept: int
) -> None:
    """By number and by bytes; the job's log says how many."""

    async def main() -> None:
        path = processor_file(tmp_path, _CHORES)
        async with open_pool(path, policy=policy, budgets=_SMALL) as caller:
            for _ in range(2):  # the next job has a budget of its own
                caller.reports.clear()
                assert await caller.value([what, count, size]) == "done"
                *rows, last = caller.reports
                if count == kept:
                    assert len(rows) + 1 == kept
                    continue
                assert len(rows) == kept
                assert last[1] == "log"
                assert f"{count - kept} more reports of this job were dropped" in last[2].decode()

    run_async(main())


@_POLICIES
def test_data_above_the_budget_are_refused(tmp_path: Path, policy: str) -> None:
    """New data that are dropped would be missed at the next attempt."""

    async def main() -> None:
        path = processor_file(tmp_path, _CHORES)
        async with open_pool(path, policy=policy, budgets=_SMALL) as caller:
            failed = await caller.failure(["data", 10, 1000])
            assert failed.cause == "ResultTooLarge"
            assert "max_report_bytes" in failed.reason
            assert await caller.value(["data", 1, 1000]) == "done"

    run_async(main())


@_POLICIES
def test_texts_rests_and_lines_have_a_limit(tmp_path: Path, policy: str) -> None:
    """Each by its own setting."""

    async def main() -> None:
        path = processor_file(tmp_path, _CHORES)
        async with open_pool(path, policy=policy, budgets=_SMALL) as caller:
            failed = await caller.failure(["fail", 0, 100_000])
            assert len(failed.reason) <= 250
            assert len(failed.stack) < 1100
            failed = await caller.failure(["limit", 0, 11])
            assert "max_rate_limit" in failed.reason
            await caller.value(["print", 100, 10])
            assert len(caller.lines) == 31
            assert "more than 30 lines" in caller.lines[-1][2]

    run_async(main())


def test_questions_above_the_budget_wait(tmp_path: Path) -> None:
    """An async job may ask a hundred at once: it is not told that this is too many."""

    async def main() -> None:
        path = processor_file(tmp_path, _ASYNC)
        async with open_pool(path, policy="limits", budgets=_SMALL) as caller:
            call = caller.submit(50)
            answered = 0
            while call.key not in caller.outcomes:
                assert len(caller.questions) - answered <= 2
                for question in caller.questions[answered:]:
                    question.refuse("nobody knows")
                    answered += 1
                await _turn()
            assert caller.outcomes[call.key] == Completed(json.dumps(50).encode())

    run_async(main())


async def _turn() -> None:
    import asyncio

    await asyncio.sleep(0.001)


_BACKGROUND = """
import asyncio, threading

go, done = threading.Event(), threading.Event()

def background():
    while True:
        go.wait()
        go.clear()
        for number in range(40): print("beat", number)

async def setup(): threading.Thread(target=background, daemon=True).start()

def rows(job):
    for _ in range(25_000): job.log("late")
    done.set()

async def process(job):
    if job.data == "background":
        asyncio.get_running_loop().call_later(0, go.set)
    if job.data == "thread":
        threading.Timer(0.1, rows, [job]).start()
    if job.data == "wait":
        while not done.is_set(): await asyncio.sleep(0.001)
        done.clear()
    return "done"
"""


def test_lines_of_nobody_are_counted_from_answer_to_answer(tmp_path: Path) -> None:
    """A thread of setup() is not silent for ever after its first thousands of lines."""

    async def main() -> None:
        path = processor_file(tmp_path, _BACKGROUND)
        async with open_pool(path, policy="limits", budgets=_SMALL) as caller:
            for _ in range(3):
                caller.lines.clear()
                await caller.value("background")
                await wait_until_async(lambda: _has(caller, "beat 0"))

    run_async(main())


def test_reports_of_a_job_that_is_over_end_no_neighbour(tmp_path: Path) -> None:
    """Its thread reports on; nobody hears it."""

    async def main() -> None:
        path = processor_file(tmp_path, _BACKGROUND)
        async with open_pool(path, policy="limits", concurrency=2) as caller:
            waiting = caller.submit("wait")
            await caller.until_begun(waiting)
            assert await caller.value("thread") == "done"
            assert isinstance(await caller.outcome(waiting), Completed)
            assert not [row for row in caller.reports if row[2] == b"late"]

    run_async(main())


async def _has(caller: Caller, text: str) -> bool:
    return any(line == text for _, _, line in caller.lines)
