"""How much memory of Redis and how many bytes of network does a job take."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import redis

from benchmarks import noop, program
from benchmarks.question import Case, Column, Found, Question, answer, options_from
from benchmarks.server import Server, private_server
from sandboxq.queue.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "footprint"
BATCH = 1000
# Enough that the newest 10,000 events, which a queue has once, are there before anything counts.
BEFORE = 15_000
EMPTY, HUNDRED, THOUSAND = "data {}", "100 bytes of data", "1,000 bytes of data"
COMPACT = ", hash-max-listpack-value 2048"
SIZES = {EMPTY: 0, HUNDRED: 100, THOUSAND: 1000}
# For docs/how-to/capacity.md: waiting and completed bytes that a plan reckons with.
PLANNED = (
    (EMPTY, 200, 480),
    (HUNDRED, 700, 1_250),
    (THOUSAND, 1_900, 2_450),
    (HUNDRED + COMPACT, 300, 600),
    (THOUSAND + COMPACT, 1_450, 1_600),
)

QUESTION = Question(
    NAME,
    "Memory and network of a job",
    (
        Column("waiting", "waiting, bytes", ",.0f"),
        Column("completed", "completed, bytes", ",.0f"),
        Column("added_in", "to Redis: added, bytes", ",.0f"),
        Column("added_out", "from Redis: added, bytes", ",.0f"),
        Column("run_in", "to Redis: run, bytes", ",.0f"),
        Column("run_out", "from Redis: run, bytes", ",.0f"),
    ),
    note="From INFO memory and INFO stats, a job among 30,000; what a queue has once, such as its "
    "newest 10,000 events, is left out. Counted, not timed: the same on a busy machine.",
    charted=("waiting", "completed"),
)


class Seen(NamedTuple):
    """Bytes so far."""

    memory: int
    received: int
    sent: int


def main(arguments: list[str]) -> None:
    """Measure jobs of three sizes, as Redis comes and with room for compact hashes."""
    options = options_from(NAME, arguments, repeats=1, jobs=30_000)
    cases = [Case(name, partial(_run, options.jobs, size, 64)) for name, size in SIZES.items()]
    cases += [
        Case(name + COMPACT, partial(_run, options.jobs, size, 2048))
        for name, size in SIZES.items()
        if size
    ]
    answer(QUESTION, cases, options)


def _run(jobs: int, size: int, compact: int) -> Found:
    with private_server() as server, redis.Redis(unix_socket_path=str(server.path)) as client:
        client.config_set("hash-max-listpack-value", compact)

        def look() -> Seen:
            memory, stats = client.info("memory"), client.info("stats")
            sent, received = stats["total_net_output_bytes"], stats["total_net_input_bytes"]
            return Seen(memory["used_memory"], received, sent)

        _fill(server, BEFORE, size)
        _drain(server, BEFORE)
        return _between(jobs, server, size, look)


def _between(jobs: int, server: Server, size: int, look: Callable[[], Seen]) -> Found:
    empty = look()
    _fill(server, jobs, size)
    full = look()
    _drain(server, jobs)
    done = look()
    return {
        "waiting": (full.memory - empty.memory) / jobs,
        "completed": (done.memory - empty.memory) / jobs,
        "added_in": (full.received - empty.received) / jobs,
        "added_out": (full.sent - empty.sent) / jobs,
        "run_in": (done.received - full.received) / jobs,
        "run_out": (done.sent - full.sent) / jobs,
    }


def _fill(server: Server, jobs: int, size: int) -> None:
    # As JSON it is two quotes longer, and the key of the data comes on top.
    data = {"d": "x" * (size - len('{"d":""}'))} if size else {}

    async def add() -> None:
        async with Queue(noop.QUEUE, url=server.url) as queue:
            for first in range(0, jobs, BATCH):
                await queue.add_bulk([("job", data, {})] * min(BATCH, jobs - first))

    asyncio.run(add())


def _drain(server: Server, jobs: int) -> None:
    spec = {
        "url": server.url,
        "server_pid": server.pid,
        "queue": noop.QUEUE,
        "processor": program.task("noop"),
        "procs": 2,
        "concurrency": 1,
        "jobs": jobs,
    }
    program.run("drain", spec)
