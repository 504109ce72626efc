"""What a job sets at the event loop that it shares is put back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_async, wait_until_async
from tests.pool.caller import open_pool

if TYPE_CHECKING:
    from pathlib import Path

PROCESSOR = """
import asyncio, os

async def process(job):
    loop = asyncio.get_running_loop()
    if job.data == "factory": loop.set_task_factory(lambda *_, **__: 1 / 0)
    if job.data == "handler": loop.set_exception_handler(print)
    if job.data == "debug": loop.set_debug(True)
    return [os.getpid(), str(loop.get_exception_handler()), loop.get_debug()]
"""


@pytest.mark.parametrize("what", ["factory", "handler", "debug"])
def test_what_a_job_sets_at_its_loop_is_put_back(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After some milliseconds without a job: the jobs after that see what the first one saw."""
    path = tmp_path / "sets.py"
    path.write_text(PROCESSOR)

    async def is_put_back() -> bool:
        return "left other settings" in caplog.text

    async def main() -> None:
        async with open_pool(path, policy="limits", concurrency=4) as caller:
            before = await caller.value("look")
            await caller.value(what)
            await wait_until_async(is_put_back)
            assert await caller.value("look") == before

    with caplog.at_level(logging.WARNING, "sandboxq.pool"):
        run_async(main())
