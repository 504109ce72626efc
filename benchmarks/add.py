"""How fast are jobs added: one awaited after the other, many awaited at once, in bulk."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.question import Case, Column, Found, Question, Target, answer, options_from
from benchmarks.server import private_server
from benchmarks.tree_cpu import cpu_seconds
from sandboxq.cli import process
from sandboxq.queue.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NAME = "add"
BATCH = 1000
AT_ONCE = 100
BULK, ONE, MANY = "sandboxq, add_bulk", "sandboxq, one by one", f"sandboxq, {AT_ONCE} at once"
DATA = {"src": "photos/0001.jpg", "width": 320}

QUESTION = Question(
    NAME,
    "Adding jobs",
    (
        Column("per_second", "jobs/s", ",.0f"),
        Column("producer", "producer, µs a job"),
        Column("redis", "Redis, µs a job"),
    ),
    (Target("add_bulk, jobs/s", lambda found: found[BULK]["per_second"], 40_000),),
    f"Batches of {BATCH} in add_bulk. `python -m benchmarks peers` has BullMQ in the same run.",
)


def main(arguments: list[str]) -> None:
    """Measure the three ways."""
    options = options_from(NAME, arguments, repeats=5, jobs=50_000)
    few = options.jobs // 10
    cases = [
        Case(ONE, partial(run, one_by_one, few)),
        Case(MANY, partial(run, _many_at_once, few)),
        Case(BULK, partial(run, in_bulk, options.jobs)),
    ]
    answer(QUESTION, cases, options)


def run(way: Callable[[Queue, int], Awaitable[None]], count: int) -> Found:
    """Add ``count`` jobs in one of the ways, to a server of its own."""
    with private_server() as server:
        return process.run(_timed(way, count, server.url, server.pid))


async def _timed(
    way: Callable[[Queue, int], Awaitable[None]], count: int, url: str, server_pid: int
) -> Found:
    async with Queue("add", url=url) as queue:
        redis, own, began = cpu_seconds(server_pid), time.process_time(), time.perf_counter()
        await way(queue, count)
        seconds = time.perf_counter() - began
        return {
            "per_second": count / seconds,
            "producer": (time.process_time() - own) / count * 1e6,
            "redis": (cpu_seconds(server_pid) - redis) / count * 1e6,
        }


async def one_by_one(queue: Queue, count: int) -> None:
    """Await each call before the next."""
    for _ in range(count):
        await queue.add("job", DATA)


async def _many_at_once(queue: Queue, count: int) -> None:
    async def one_of_many() -> None:
        for _ in range(count // AT_ONCE):
            await queue.add("job", DATA)

    await asyncio.gather(*(one_of_many() for _ in range(AT_ONCE)))


async def in_bulk(queue: Queue, count: int) -> None:
    """Add in batches."""
    for first in range(0, count, BATCH):
        await queue.add_bulk([("job", DATA, {})] * min(BATCH, count - first))
