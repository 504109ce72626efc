"""How many jobs that do nothing does a worker run a second, and where do their microseconds go."""

from __future__ import annotations

import asyncio
from functools import partial

from benchmarks import program
from benchmarks.question import (
    Case,
    Column,
    Found,
    Question,
    Target,
    answer,
    at_most,
    options_from,
)
from benchmarks.server import private_server
from sandboxq.queue.queue import Queue

NAME = "noop"
QUEUE = "noop"
BATCH = 1000
OURS = "sandboxq, 2 children"
STRICT = "sandboxq, 2 children under strict"

QUESTION = Question(
    NAME,
    "No-op jobs through a queue and sandboxed children",
    (
        Column("per_second", "jobs/s", ",.0f"),
        Column("coordinator", "coordinator, µs a job"),
        Column("redis", "Redis, µs a job"),
        Column("children", "children, µs a job"),
        Column("gap", "longest heartbeat gap, ms", ",.0f"),
    ),
    (
        at_most(OURS, "redis", "Redis, µs CPU a job", 32),
        Target("jobs/s under strict", lambda found: found[STRICT]["per_second"], 8000),
    ),
    "CPU microseconds of each process a job, from claim to outcome in Redis. "
    "`python -m benchmarks peers` has the others in the same run.",
)


def main(arguments: list[str]) -> None:
    """Measure one and two children, and two that hold one job at a time."""
    options = options_from(NAME, arguments, repeats=5, jobs=20_000)
    cases = [
        Case("sandboxq, 1 child", partial(run, jobs=options.jobs, procs=1)),
        Case(OURS, partial(run, jobs=options.jobs, procs=2)),
        Case(STRICT, partial(run, jobs=options.jobs, procs=2, policy="strict")),
    ]
    answer(QUESTION, cases, options)


def run(
    *,
    jobs: int,
    procs: int,
    waiting: int = 0,
    task: str = "noop",
    concurrency: int = 1,
    policy: str = "limits",
    http: str = "",
) -> Found:
    """Add ``jobs``, or as many as are to be ``waiting``, and drain ``jobs`` of them."""
    with private_server() as server:
        asyncio.run(add(server.url, max(jobs, waiting)))
        spec = {
            "url": server.url,
            "server_pid": server.pid,
            "queue": QUEUE,
            "processor": program.task(task),
            "procs": procs,
            "concurrency": concurrency,
            "policy": policy,
            "jobs": jobs,
            **({"http": http} if http else {}),
        }
        return found_from(program.run("drain", spec))


async def add(url: str, count: int) -> None:
    """Add ``count`` jobs without data."""
    async with Queue(QUEUE, url=url) as queue:
        for first in range(0, count, BATCH):
            await queue.add_bulk([("job", {}, {})] * min(BATCH, count - first))


def found_from(drained: dict[str, float]) -> Found:
    """Return the columns of a drain."""
    jobs = drained["jobs"]
    places = ("coordinator", "redis", "children")
    return {
        "per_second": jobs / (drained["ended"] - drained["began"]),
        **{place: drained[place] / jobs * 1e6 for place in places},
        "gap": drained["longest_gap"] * 1000,
        "memory_growth": drained["memory_growth"] / 1e6,
    }
