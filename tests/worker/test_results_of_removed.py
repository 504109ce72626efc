"""Values of jobs that are removed as they complete, thousands at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxq import Queue, Worker
from tests.conftest import run_async

if TYPE_CHECKING:
    from sandboxq.queue.options import BulkEntry

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")
NUMBER = 3000


def test_each_value_is_read_from_the_stream(server_url: str, queue_name: str) -> None:
    """16 of 3,000 were told that their job does not exist, while its entry was still to be read."""

    async def main() -> list[object]:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, PROCESSOR, url=server_url, procs=2) as worker,
        ):
            run = asyncio.create_task(worker.run())
            entries: list[BulkEntry] = [
                ("echo", {"value": number}, {"remove_on_complete": True})
                for number in range(NUMBER)
            ]
            jobs = await queue.add_bulk(entries)
            values = await asyncio.gather(*(job.result(60) for job in jobs), return_exceptions=True)
            worker.stop()
            await run
            return list(values)

    for _ in range(3):
        assert run_async(main()) == list(range(NUMBER))
