"""What one job may say is a setting of the worker, and reaches the children."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq import Queue, Worker
from tests.conftest import run_async

if TYPE_CHECKING:
    from pathlib import Path

TALKER = """
def process(job):
    for i in range(50):
        job.log(f"row {i}")
        print(f"line {i}")
"""


def test_the_settings_of_a_worker_hold_for_its_jobs(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """The pool kept to its defaults, whatever ``max_reports`` and ``max_lines`` said."""
    path = tmp_path / "talker.py"
    path.write_text(TALKER)

    async def main() -> list[str]:
        async with Queue(queue_name, server_url) as queue:
            job = await queue.add("talk", {})
            settings = {"procs": 1, "max_reports": 10, "max_lines": 5}
            async with Worker(queue_name, path, url=server_url, **settings) as worker:  # type: ignore[arg-type]  # each has its type
                await worker.run(burst=True)
            return await job.logs()

    logs = run_async(main())

    assert sum(row.startswith("row ") for row in logs) == 10
    assert sum(row.startswith("line ") for row in logs) == 5
    assert any("40 more reports of this job were dropped" in row for row in logs)
