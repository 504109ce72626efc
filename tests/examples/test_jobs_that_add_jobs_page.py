"""docs/how-to/jobs-that-add-jobs.md: its processors do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

from sandboxq import Queue, Worker
from tests.conftest import run_async

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "jobs-that-add-jobs.md"
BLOCK = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_processors_of_the_page(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Both run as they stand."""
    files = dict(BLOCK.findall(PAGE.read_text()))
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    async def value(name: str, data: object) -> object:
        queue_of = f"{queue_name}-{name.partition('.')[0]}"
        async with (
            Queue(queue_of, server_url, prefix=queue_name) as queue,
            Worker(
                queue_of, tmp_path / name, url=server_url, prefix=queue_name, procs=1
            ) as worker,
        ):  # fmt: skip
            job = await queue.add("first", data)
            await worker.run(burst=True)
            return await job.result(timeout=20)

    async def main() -> None:
        assert len(files) == 2
        first = await value("photos.py", {"src": "a.jpg"})
        async with Queue("thumbnails", server_url, prefix=queue_name) as thumbnails:
            jobs = await thumbnails.get_jobs("waiting", ascending=True)
            assert [job.data["width"] for job in jobs] == [320, 640, 1280]
            assert jobs[0].id == first
        assert await value("report.py", {}) == [0, 1, 2]

    run_async(main())
