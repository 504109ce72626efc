"""How long after it was added does a job start, and when does its producer have the result."""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import program
from benchmarks.question import Case, Column, Found, Question, answer, at_most, options_from
from benchmarks.server import private_server
from sandboxq.cli import process
from sandboxq.queue.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "latency"
OURS = "sandboxq, 2 children"
STRICT = "sandboxq, 2 children under strict"
# Long enough that worker, children and Redis have all gone to sleep.
PAUSE = 0.01
# The first jobs open connections.
WARM_UP = 20

QUESTION = Question(
    NAME,
    "Latency of an idle worker",
    (
        Column("start_p50", "add → start p50, ms", ".2f"),
        Column("start_p99", "add → start p99, ms", ".2f"),
        Column("result_p50", "add → result p50, ms", ".2f"),
        Column("result_p99", "add → result p99, ms", ".2f"),
    ),
    (
        at_most(OURS, "start_p50", "add → start p50, ms", 1),
        at_most(OURS, "result_p50", "add → result p50, ms", 2),
        at_most(OURS, "result_p99", "add → result p99, ms", 10),
    ),
    "From the call of `add` to the first line of the processor, and to `await job.result()`; "
    f"one job at a time, {PAUSE * 1000:g} ms apart.",
    ("start_p50", "start_p99", "result_p50", "result_p99"),
)


def main(arguments: list[str]) -> None:
    """Measure a worker in a process of its own, under the usual policy and under the strictest."""
    options = options_from(NAME, arguments, repeats=5, jobs=500)
    cases = [
        Case(OURS, partial(_run, options.jobs)),
        Case(STRICT, partial(_run, options.jobs, policy="strict")),
    ]
    answer(QUESTION, cases, options)


def _run(jobs: int, *, policy: str = "limits") -> Found:
    with private_server() as server:
        spec = {"queue": NAME, "processor": program.task("stamp"), "procs": 2, "lock_duration": 30}
        worker = program.start("idle_worker", {"url": server.url, "policy": policy, **spec})
        program.wait_for_line(worker)
        found = process.run(_measured(server.url, jobs))
        worker.terminate()
        program.finish(worker)
        return found


async def _measured(url: str, jobs: int) -> Found:
    starts: list[float] = []
    results: list[float] = []
    async with Queue(NAME, url=url) as queue:
        for _ in range(WARM_UP + jobs):
            await asyncio.sleep(PAUSE)
            began = time.monotonic_ns()
            job = await queue.add("stamp", {})
            started = await job.result(timeout=10)
            starts.append((started - began) / 1e6)
            results.append((time.monotonic_ns() - began) / 1e6)
    return {
        "start_p50": statistics.median(starts[WARM_UP:]),
        "start_p99": _p99(starts[WARM_UP:]),
        "result_p50": statistics.median(results[WARM_UP:]),
        "result_p99": _p99(results[WARM_UP:]),
    }


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100)[98]
