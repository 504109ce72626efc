"""What a job says while it runs: progress, log, data, print, logging, questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.model import dependencies as words
from sandboxq.model.outcome import Completed
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.conftest import Open
    from tests.pool.caller import Caller

_CHORES = """
import logging, sys, time
print("imported")

def process(job):
    if job.data.get("ask"):
        return job.children_values()
    data = job.data
    job.log("a row")
    job.update_progress({"done": 40})
    job.update_data({"new": 1})
    for number in range(data.get("lines", 1)):
        print("line", number, job.id)
        time.sleep(data.get("pause", 0))
    print("no newline", end="")
    print("complaint", file=sys.stderr)
    logging.getLogger("mine").warning("careful")
    return "told"
"""
_ASYNC = """
import asyncio

async def process(job):
    if job.data.get("ask"):
        return await job.children_values()
    for number in range(3):
        print("line", number, job.id)
        await asyncio.sleep(0.01)
"""


@pytest.fixture
def chores(tmp_path: Path) -> Path:
    """Return the path of a plain processor."""
    return processor_file(tmp_path, _CHORES)


def test_reports_come_in_order_and_before_the_outcome(open_kind: Open, chores: Path) -> None:
    """Progress, log and data, each under its job."""

    async def main() -> None:
        async with open_kind(chores) as caller:
            call = caller.submit({})
            await caller.outcome(call)
            assert caller.reports == [
                (call.key, "log", b"a row"),
                (call.key, "progress", b'{"done":40}'),
                (call.key, "data", b'{"new":1}'),
            ]

    run_async(main())


def test_what_is_printed_and_logged_is_the_jobs(
    open_kind: Open, chores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also text without a newline; and what the coordinator prints stays the coordinator's."""

    async def main() -> None:
        async with open_kind(chores) as caller:
            call = caller.submit({})
            await caller.outcome(call)
            print("of the coordinator")  # noqa: T201 - what is printed is the point
            lines = [(stream, line) for key, stream, line in caller.lines if key == call.key]
            key = call.key.decode()
            assert ("stdout", f"line 0 {key}") in lines
            assert ("stdout", "no newline") in lines
            assert ("stderr", "complaint") in lines
            # Where the program has set up logging, its handlers show the record.
            assert any("careful" in line for _, line in lines) or _has_own_logging()

    run_async(main())
    shown = capsys.readouterr().out
    assert "of the coordinator" in shown
    assert "line 0" not in shown


def test_lines_of_jobs_that_run_side_by_side_are_told_apart(open_kind: Open, chores: Path) -> None:
    """Two children print at the same time; each line says whose it is, and is checked."""

    async def main() -> None:
        async with open_kind(chores, size=2) as caller:
            calls = [caller.submit({"lines": 20, "pause": 0.002}) for _ in range(4)]
            for call in calls:
                await caller.outcome(call)
            _check_owners(caller, 80)

    run_async(main())


def test_lines_of_async_jobs_are_told_apart(open_kind: Open, tmp_path: Path) -> None:
    """The jobs of one loop take turns in the middle of their output."""
    chores = processor_file(tmp_path, _ASYNC)

    async def main() -> None:
        async with open_kind(chores, concurrency=4) as caller:
            for call in [caller.submit({}) for _ in range(8)]:
                await caller.outcome(call)
            _check_owners(caller, 24)

    run_async(main())


@pytest.mark.parametrize("text", [_CHORES, _ASYNC], ids=["plain", "async"])
def test_questions_are_answered(open_kind: Open, tmp_path: Path, text: str) -> None:
    """The job waits for the answer, which the worker reads from Redis."""
    chores = processor_file(tmp_path, text)

    async def main() -> None:
        async with open_kind(chores) as caller:
            call = caller.submit({"ask": True})

            async def is_asked() -> bool:
                return bool(caller.questions)

            await wait_until_async(is_asked)
            assert caller.questions[0].kind == words.VALUES
            caller.questions[0].answer([[b"k", b"[1]"]])
            assert await caller.outcome(call) == Completed(b'{"k":[1]}')

    run_async(main())


def _check_owners(caller: Caller, count: int) -> None:
    lines = [(key, line) for key, _, line in caller.lines if key and line.startswith("line")]
    assert len(lines) == count
    assert all(line.split()[-1] == key.decode() for key, line in lines)


def _has_own_logging() -> bool:
    import logging

    return bool(logging.root.handlers)
