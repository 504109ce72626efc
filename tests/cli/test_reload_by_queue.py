"""`sandboxq reload QUEUE`: the workers of one queue load their code anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cli.test_workers_and_top import command
from tests.worker.test_worker import with_worker

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq import Queue, Worker

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


def _without_a_worker(url: str, queue: str) -> str:
    import asyncio

    return asyncio.run(command(url, "reload", queue, code=1))
