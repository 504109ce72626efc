"""taskiq with its Redis list broker: ``taskiq worker taskiq_peer:broker``."""

from __future__ import annotations

import asyncio

import command
import jobs
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

# Its default of 0.2 s would be all that is measured.
CHECK_SECONDS = 0.001

broker = ListQueueBroker(command.URL, queue_name="peers")
if command.RESULTS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(command.URL))
TASKS = {
    "noop": broker.task(task_name="noop")(jobs.async_noop),
    "nap": broker.task(task_name="nap")(jobs.async_nap),
    "resize": broker.task(task_name="resize")(jobs.resize),
    "stamp": broker.task(task_name="stamp")(jobs.async_stamp),
}


async def add(task: str, data: list[object]) -> None:
    """Send a message for each item."""
    await command.many(TASKS[task].kiq, data)


async def once() -> int:
    """Send one and wait for its result."""
    sent = await TASKS["stamp"].kiq(None)
    result = await sent.wait_result(check_interval=CHECK_SECONDS, timeout=10)
    started: int = result.return_value
    return started


async def main() -> None:
    """Connect, and do what the command line says."""
    await broker.startup()
    await command.serve_async(add, once)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
