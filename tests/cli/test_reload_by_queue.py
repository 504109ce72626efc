"""`sandboxq reload QUEUE`: the workers of one queue load their code anew."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from tests.cli.test_workers_and_top import command
from tests.conftest import wait_until_async
from tests.worker.test_worker import with_worker

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq import Queue, Worker
    from sandboxq.queue.job import QueuedJob

WAITS = """
import time
def process(job):
    while True:
        time.sleep(0.01)
"""
COUNTS = """
import os, time
with open({imports!r}, "a") as file:
    file.write("x")
while not os.path.exists({go!r}):
    time.sleep(0.01)
def process(job):
    return 1
"""
ANSWERS = "def process(job):\n    return {value!r}\n"


def test_new_code_and_broken_code(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """New code answers; broken code is told with its error, and the code before runs on."""
    path = tmp_path / "answers.py"
    path.write_text(ANSWERS.format(value="old"))

    async def body(queue: Queue, worker: Worker) -> None:
        assert await (await queue.add("x", {})).result(60) == "old"
        path.write_text(ANSWERS.format(value="quite new"))
        shown = await command(server_url, "reload", queue_name)
        assert f"{worker.name}: runs the new code" in shown
        assert await (await queue.add("x", {})).result(60) == "quite new"

        path.write_text("import no_such_module\n")
        shown = await command(server_url, "reload", queue_name, code=3)
        assert "No module named 'no_such_module'" in shown
        assert f"the new code was not taken by {worker.name}" in shown
        assert await (await queue.add("x", {})).result(60) == "quite new"

    with_worker(server_url, queue_name, body, processor=str(path), procs=1)
    assert "no running worker" in _without_a_worker(server_url, queue_name)


def test_many_who_ask_share_a_reload_and_keep_no_cancel_out(
    tmp_path: Path, server_url: str, queue_name: str
) -> None:
    """One runs, and one for all who asked meanwhile; other requests do not count among these."""
    go, imports, path = tmp_path / "go", tmp_path / "imports", tmp_path / "answers.py"
    path.write_text(WAITS)

    async def body(queue: Queue, worker: Worker) -> None:
        job = await queue.add("long", {})
        await wait_until_async(lambda: _is_active(job))
        path.write_text(COUNTS.format(imports=str(imports), go=str(go)))
        asking = [asyncio.create_task(worker.reload()) for _ in range(3)]
        await wait_until_async(lambda: _exists(imports))
        request = {"ask": "reload", "reply_key": worker.keys.reply_key("nobody")}
        try:
            for _ in range(100):
                await worker.broker.command(
                    "PUBLISH", worker.keys.control_channel, json.dumps(request)
                )
            assert await queue.cancel(job.id, grace=0.1)
        finally:
            go.touch()
        await asyncio.gather(*asking, worker.reload())
        assert imports.read_text() in {"x" * number for number in (1, 2, 3)}

    with_worker(server_url, queue_name, body, processor=str(path), procs=1)


async def _is_active(job: QueuedJob) -> bool:
    return await job.state() == "active"


async def _exists(path: Path) -> bool:
    return path.exists()  # noqa: ASYNC240 - of a test


def _without_a_worker(url: str, queue: str) -> str:
    return asyncio.run(command(url, "reload", queue, code=1))
