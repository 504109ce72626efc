"""An operator takes a permission away for a while: outcomes are kept until it is there again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from sandboxq import Queue, Worker
from tests.conftest import run_async, running_server, wait_until_async

if TYPE_CHECKING:
    from pathlib import Path

PROCESSOR = """
import pathlib, time
def process(job):
    pathlib.Path(job.data["began"]).touch()
    while not pathlib.Path(job.data["go"]).exists():
        time.sleep(0.01)
    return 7
"""


@pytest.mark.parametrize("taken", [["-evalsha", "-eval"], ["-hset"]])
def test_outcomes_wait_for_the_permission_to_write_them(
    tmp_path: Path, queue_name: str, taken: list[str]
) -> None:
    """Dropped, they would leave their jobs active without an owner.

    A script may be run of which one command is not permitted.
    """
    processor = tmp_path / "waits.py"
    processor.write_text(PROCESSOR)
    began, go = tmp_path / "began", tmp_path / "go"

    async def main(url: str) -> None:
        async with (
            Queue(queue_name, url) as queue,
            Worker(queue_name, processor, url=url, procs=1, lock_duration=60) as worker,
            redis.asyncio.Redis.from_url(url) as operator,
        ):
            job = await queue.add("n", {"began": str(began), "go": str(go)})
            running = asyncio.create_task(worker.run())
            await wait_until_async(lambda: _exists(began))
            refused = await _refusals(operator)
            await operator.acl_setuser("default", enabled=True, commands=taken)
            go.touch()
            await wait_until_async(lambda: _more_refusals(operator, refused + 4))
            await operator.acl_setuser("default", enabled=True, commands=["+@all"])
            assert await job.result(timeout=60) == 7
            assert (await job.refresh()).attempts_started == 1
            worker.stop()
            await running

    with running_server(tmp_path) as url:
        run_async(main(url))


async def _exists(path: Path) -> bool:
    return path.exists()  # noqa: ASYNC240 - a moment


async def _refusals(operator: Any) -> int:
    stats = await operator.info("commandstats")
    names = ("cmdstat_evalsha", "cmdstat_hset")
    return sum(int(stats.get(name, {}).get("rejected_calls", 0)) for name in names)


async def _more_refusals(operator: Any, least: int) -> bool:
    return await _refusals(operator) >= least
