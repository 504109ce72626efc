"""BullMQ's own Python port: ``bullmq_python.py work``, in one process and one event loop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import defaultdict
from typing import Any

import command
import jobs
import uvloop
from bullmq import Queue, QueueEvents, Worker

NAME = "peers"
BATCH = 1000
TASKS = {"noop": jobs.async_noop, "nap": jobs.async_nap, "stamp": jobs.async_stamp}


async def process(job: Any, _token: str) -> Any:
    """Run the job's task."""
    return await TASKS[job.name](job.data)


async def work() -> None:
    """Serve until SIGTERM ends the process."""
    Worker(NAME, process, {"connection": command.URL, "concurrency": command.AT_ONCE})
    await asyncio.Event().wait()


async def produce() -> None:
    """Do what standard input says."""
    queue = Queue(NAME, {"connection": command.URL})
    # protocol: it cannot read what redis-py 8 makes of the newer one's replies. lastEventId: what
    # happens before it listens would be missed.
    listening = {"connection": f"{command.URL}?protocol=2", "lastEventId": "0"}
    events = QueueEvents(NAME, listening)
    started: defaultdict[str, asyncio.Future[int]] = defaultdict(
        asyncio.get_running_loop().create_future
    )
    events.on("completed", lambda told, _id: started[told["jobId"]].set_result(told["returnvalue"]))

    async def add(task: str, data: list[Any]) -> None:
        for first in range(0, len(data), BATCH):
            await queue.addBulk(
                [{"name": task, "data": item, "opts": {}} for item in data[first : first + BATCH]]
            )

    async def once() -> int:
        job = await queue.add("stamp", {}, {})
        return await started[job.id]

    await command.serve_async(add, once)
    # Its close() may wait for ever for the reader of events.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(work() if sys.argv[1] == "work" else produce())
