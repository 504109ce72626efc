"""What a job printed is its own, and here before its outcome, however it was printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_PRINTS = """
import os

def process(job):
    number, size = job.data[:2]
    if "refuse" in job.data:
        os.set_blocking(1, False)  # as a program does that shares it
    for each in range(number):
        print(each, "x" * size)
    if "fork" in job.data:
        pid = os.fork()
        if not pid:
            print("of the fork", flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("policy", ["none", "strict"])
def test_all_that_the_pipe_holds_at_the_end_is_the_jobs(tmp_path: Path, policy: str) -> None:
    """Also what is more than one read takes, and of a strict job, whose pipe holds more."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PRINTS), policy=policy) as caller:
            for number, size in [(12, 15_000), (2_000, 3), (1, 1)]:
                caller.lines.clear()
                call = caller.submit([number, size])
                await caller.outcome(call)
                assert [line.partition(" ")[0] for _, _, line in caller.lines] == [
                    str(each) for each in range(number)
                ]
                assert {key for key, _, _ in caller.lines} == {call.key}

    run_async(main())


def test_a_pipe_that_was_made_to_refuse_loses_nothing(tmp_path: Path) -> None:
    """Programs that a job starts may make what they share with it non-blocking (Node does)."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PRINTS)) as caller:
            await caller.value([5_000, 100, "refuse"])
            assert len(caller.lines) == 5_000

    run_async(main())


def test_a_fork_of_a_job_prints_by_itself(tmp_path: Path) -> None:
    """It has copies of what was not sent yet, and would say it twice."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _PRINTS)) as caller:
            await caller.value([1, 1, "fork"])
            assert [line for _, _, line in caller.lines] == ["0 x", "of the fork"]

    run_async(main())
