"""Where a running job is; from every kind of children, and the job goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from sandboxq.model.outcome import Completed
from sandboxq.pool.kinds import Kind
from sandboxq.pool.stacks import read_stacks
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.contract.conftest import Open
    from tests.pool.caller import Caller

_CHORES = """
import time

def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0)

def process(job):
    compute(job.data)
    return True
"""
_ASYNC = """
import asyncio, time

async def process(job):
    if job.data < 0: time.sleep(-job.data)
    else: await asyncio.sleep(job.data)
    return True
"""


async def _frames(caller: Caller, count: int) -> tuple[list[str], str]:
    """Return the functions of the last call, innermost first, and what is said of them."""
    child = caller.pool.supervisor.children[0]

    async def all_run() -> bool:
        return len(child.running_calls()) == count

    await wait_until_async(all_run)
    await asyncio.sleep(0.1)
    stacks = await read_stacks(child)
    lines = stacks.of(child.running_calls()[-1].seq).splitlines()
    return [line.rsplit(" ", 1)[1] for line in lines], stacks.note


def test_where_a_job_is(tmp_path: Path, open_kind: Open, kind: Kind) -> None:
    """The frames end in the processor; an interpreter shows none to others, and that is said."""
    chores = processor_file(tmp_path, _CHORES)

    async def main() -> None:
        async with open_kind(chores) as caller:
            call = caller.submit(1.0)
            names, note = await _frames(caller, 1)
            if kind is Kind.INTERPRETER:
                assert "does not answer" in note
            else:
                assert names[-2:] == ["compute", "process"]
            assert await caller.outcome(call) == Completed(b"true")

    run_async(main())


@pytest.mark.parametrize("seconds", [1.0, -1.0], ids=["waits", "blocks"])
def test_where_an_async_job_is(tmp_path: Path, open_kind: Open, kind: Kind, seconds: float) -> None:
    """Each task's own frames; the loop's thread when it is blocked."""
    chores = processor_file(tmp_path, _ASYNC)

    async def main() -> None:
        async with open_kind(chores, concurrency=2) as caller:
            call = caller.submit(seconds)
            names, note = await _frames(caller, 1)
            if seconds < 0 and kind is Kind.INTERPRETER:
                assert "does not answer" in note
            else:
                assert names[-1] == "process"
                assert ("blocked" in note) == (seconds < 0)
            assert await caller.outcome(call) == Completed(b"true")

    run_async(main())
