"""RQ: ``rq worker-pool``; it forks for every job."""

from __future__ import annotations

import command
import jobs
from redis import Redis
from rq import Queue

queue = Queue(connection=Redis(unix_socket_path=command.SOCKET))
TASKS = {"noop": jobs.noop, "resize": jobs.resize}


def add(task: str, data: list[object]) -> None:
    """Enqueue a job for each item, in one go."""
    queue.enqueue_many([Queue.prepare_data(TASKS[task], (item,)) for item in data])


def once() -> int:
    """Enqueue one and wait for its result."""
    result = queue.enqueue(jobs.stamp, None).latest_result(timeout=10)
    assert result is not None
    started: int = result.return_value
    return started


if __name__ == "__main__":
    command.serve(add, once)
