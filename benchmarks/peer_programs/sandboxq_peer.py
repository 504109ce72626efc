"""sandboxq: ``sandboxq run``; jobs run in its children."""

from __future__ import annotations

from typing import Any

import command

from sandboxq.cli import process
from sandboxq.queue.queue import Queue

NAME = "peers"
BATCH = 1000


async def main() -> None:
    """Do what standard input says."""
    async with Queue(NAME, url=command.URL) as queue:

        async def add(task: str, data: list[Any]) -> None:
            for first in range(0, len(data), BATCH):
                await queue.add_bulk([(task, item, {}) for item in data[first : first + BATCH]])

        async def once() -> int:
            job = await queue.add("stamp", {})
            started: int = await job.result(timeout=10)
            return started

        await command.serve_async(add, once)


if __name__ == "__main__":
    process.run(main())
