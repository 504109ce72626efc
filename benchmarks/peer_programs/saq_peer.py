"""SAQ: ``saq saq_peer.settings``."""

from __future__ import annotations

import asyncio
from typing import Any

import command
import jobs
import uvloop
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

uvloop.install()
# Its own from_url knows no Unix sockets.
queue = RedisQueue(Redis(unix_socket_path=command.SOCKET), name="peers")


async def noop(_context: Any, *, data: Any) -> None:
    """Do nothing."""
    await jobs.async_noop(data)


async def nap(_context: Any, *, data: Any) -> None:
    """Sleep."""
    await jobs.async_nap(data)


settings = {"queue": queue, "functions": [noop, nap], "concurrency": command.AT_ONCE}


async def add(task: str, data: list[Any]) -> None:
    """Enqueue a job for each item."""
    await command.many(lambda item: queue.enqueue(task, data=item), data)


async def main() -> None:
    """Enqueue what standard input says."""
    await queue.connect()
    await command.serve_async(add)
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(main())
