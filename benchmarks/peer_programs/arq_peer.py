"""arq: ``arq arq_peer.WorkerSettings``."""

from __future__ import annotations

import asyncio
from typing import Any

import command
import jobs
import uvloop
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import func

uvloop.install()
SETTINGS = RedisSettings(unix_socket_path=command.SOCKET)


async def noop(_context: Any, data: Any) -> None:
    """Do nothing."""
    await jobs.async_noop(data)


async def nap(_context: Any, data: Any) -> None:
    """Sleep."""
    await jobs.async_nap(data)


class WorkerSettings:
    """What ``arq`` reads."""

    functions = (func(noop), func(nap))
    redis_settings = SETTINGS
    max_jobs = command.AT_ONCE
    # Its default of 0.5 s would be all that is measured.
    poll_delay = 0.01


async def main() -> None:
    """Enqueue what standard input says."""
    pool = await create_pool(SETTINGS)

    async def add(task: str, data: list[Any]) -> None:
        await command.many(lambda item: pool.enqueue_job(task, item), data)

    await command.serve_async(add)
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(main())
