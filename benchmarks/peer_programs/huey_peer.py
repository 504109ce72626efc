"""Huey: ``huey_consumer huey_peer.huey -k process``."""

from __future__ import annotations

import command
import jobs
from huey import RedisHuey

huey = RedisHuey("peers", url=command.URL, results=False)
TASKS = {"noop": huey.task()(jobs.noop)}


def add(task: str, data: list[object]) -> None:
    """Enqueue a task for each item."""
    for item in data:
        TASKS[task](item)


if __name__ == "__main__":
    command.serve(add)
