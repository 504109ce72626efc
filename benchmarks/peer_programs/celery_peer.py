"""Celery: ``celery -A celery_peer worker -P prefork``."""

from __future__ import annotations

import command
import jobs
from celery import Celery

app = Celery(
    "peers",
    broker=f"redis+socket://{command.SOCKET}",
    backend=f"redis+socket://{command.SOCKET}",
)
TASKS = {
    # Without results, the quicker way; only the latency of a result needs one.
    "noop": app.task(name="noop", ignore_result=True)(jobs.noop),
    "resize": app.task(name="resize", ignore_result=True)(jobs.resize),
    "stamp": app.task(name="stamp")(jobs.stamp),
}


def add(task: str, data: list[object]) -> None:
    """Send a message for each item."""
    for item in data:
        TASKS[task].delay(item)


def once() -> int:
    """Send one and wait for its result."""
    started: int = TASKS["stamp"].delay(None).get(timeout=10)
    return started


if __name__ == "__main__":
    command.serve(add, once)
