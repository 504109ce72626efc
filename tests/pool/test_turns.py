"""Answers of jobs that end in one turn of an event loop share a packet; none pays for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed, Failed
from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.pool.pool import Call
    from tests.pool.caller import Caller

_TOGETHER = """
import asyncio, os, time

gate = asyncio.Event()

async def process(job):
    if job.data.get("open"):
        gate.set()
        return "open"
    await gate.wait()
    if job.data.get("print"): print(job.data["print"])
    if job.data.get("die"): os._exit(3)
    if job.data.get("block"): time.sleep(job.data["block"])
    return "x" * job.data.get("size", 0)
"""


@pytest.fixture
def together(tmp_path: Path) -> Path:
    """Return the path of a processor whose jobs all go on in the same turn."""
    return processor_file(tmp_path, _TOGETHER)


async def _in_one_turn(caller: Caller, *datas: dict[str, object]) -> list[Call]:
    """Submit jobs, and have them go on one behind the other once all wait."""
    calls = [caller.submit(data) for data in datas]
    await caller.until_begun(*calls)
    caller.submit({"open": 1})
    return calls


def test_an_answer_does_not_wait_for_a_job_that_blocks_the_loop(together: Path) -> None:
    """It is ready; that a neighbour computes in the same turn is no concern of its own."""

    async def main() -> None:
        async with open_pool(together, concurrency=4) as caller:
            *quick, blocker = await _in_one_turn(caller, {}, {}, {"block": 3})
            for call in quick:
                assert await caller.outcome(call) == Completed(b'""')
            assert blocker.key not in caller.outcomes
            assert await caller.outcome(blocker) == Completed(b'""')

    run_async(main())


def test_an_answer_outlives_the_child_that_dies_in_the_same_turn(together: Path) -> None:
    """The job has run: to run it again would be to run it twice."""

    async def main() -> None:
        async with open_pool(together, concurrency=4) as caller:
            *quick, killer = await _in_one_turn(caller, {}, {}, {"die": 1})
            for call in quick:
                assert await caller.outcome(call) == Completed(b'""')
            assert isinstance(await caller.outcome(killer), Failed)

    run_async(main())


def test_values_of_all_sizes_and_their_lines_arrive_from_one_turn(together: Path) -> None:
    """Large values have packets of their own; a packet is sent when it is full."""

    async def main() -> None:
        sizes = [0, 400, 600, 100_000, *[300] * 60]
        async with open_pool(together, concurrency=100) as caller:
            datas = [{"size": size, "print": f"line {at}"} for at, size in enumerate(sizes)]
            calls = await _in_one_turn(caller, *datas)
            for call, size in zip(calls, sizes, strict=True):
                assert await caller.outcome(call) == Completed(b'"' + b"x" * size + b'"')
            lines = {key: line for key, _, line in caller.lines}
            assert lines == {call.key: f"line {at}" for at, call in enumerate(calls)}

    run_async(main())
