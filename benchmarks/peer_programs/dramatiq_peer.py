"""Dramatiq: ``dramatiq dramatiq_peer``; processes of threads."""

from __future__ import annotations

import command
import dramatiq
import jobs
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=command.URL))
TASKS = {"noop": dramatiq.actor(jobs.noop), "nap": dramatiq.actor(jobs.nap)}


def add(task: str, data: list[object]) -> None:
    """Send a message for each item."""
    for item in data:
        TASKS[task].send(item)


if __name__ == "__main__":
    command.serve(add)
