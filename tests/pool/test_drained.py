"""A job that reads descriptors which are not its own: the calls of its packet go back unharmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandboxq.errors import JobCancelled
from sandboxq.model.outcome import Completed, Failed
from tests.conftest import run_async, wait_until_async
from tests.pool.caller import Caller, open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_READS = """
import asyncio, os

def eventfds():
    for name in os.listdir("/proc/self/fd"):
        try:
            if "eventfd" in os.readlink("/proc/self/fd/" + name): yield int(name)
        except OSError:
            pass

def drains():
    for fd in eventfds():
        try:
            for _ in range(100): os.read(fd, 8)
        except BlockingIOError:
            pass

def closes():
    for fd in eventfds(): os.close(fd)

def process(job):
    globals().get(job.data, str)()
    return job.data
"""
_OF_A_LOOP = """
async def process(job):
    globals().get(job.data, str)()
    if job.data == "waits": await asyncio.sleep(60)
    return job.data
"""


async def _made_quick(caller: Caller) -> None:
    """Have jobs share packets, as they do once they are known to be short."""
    for call in caller.submit_all(["quick"] * 300):
        assert isinstance(await caller.outcome(call), Completed)
    children = caller.pool.supervisor.children

    async def may_pack() -> bool:
        return children[0].packets.last > 0

    await wait_until_async(may_pack)


@pytest.mark.parametrize("deed", ["drains", "closes"])
def test_the_packet_of_a_job_that_reads_their_tokens_goes_back(tmp_path: Path, deed: str) -> None:
    """All of them end as they would have, in another child; three times, and then one by one."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _READS), policy="limits") as caller:
            await _made_quick(caller)
            for _ in range(6):
                datas = [deed, *["good"] * 7]
                for call, data in zip(caller.submit_all(datas), datas, strict=True):
                    assert await caller.outcome(call) == Completed(f'"{data}"'.encode())

    run_async(main())


@pytest.mark.parametrize("deed", ["drains", "closes"])
def test_jobs_beside_one_that_reads_tokens_go_on(tmp_path: Path, deed: str) -> None:
    """Those of its packet go back; those that run in its event loop run to their end."""

    async def main() -> None:
        path = processor_file(tmp_path, _READS + _OF_A_LOOP)
        async with open_pool(path, policy="limits", concurrency=8) as caller:
            beside = caller.submit("waits")
            await caller.until_begun(beside)
            datas = [deed, *["good"] * 5]
            for call, data in zip(caller.submit_all(datas), datas, strict=True):
                assert await caller.outcome(call) == Completed(f'"{data}"'.encode())
            assert beside.key not in caller.outcomes
            caller.pool.cancel_call(beside, JobCancelled("the test is over"), grace=10)
            assert isinstance(await caller.outcome(beside), Failed)

    run_async(main())
