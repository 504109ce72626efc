"""Do two coordinators on one queue get in each other's way."""

from __future__ import annotations

import asyncio
from functools import partial

from benchmarks import noop, program
from benchmarks.question import Case, Column, Found, Medians, Question, Target, answer, options_from
from benchmarks.server import private_server

NAME = "coordinators"
ONE, TWO = "sandboxq, 1 coordinator × 2 children", "sandboxq, 2 coordinators × 1 child"

QUESTION = Question(
    NAME,
    "No-op jobs by the number of coordinators",
    (
        Column("per_second", "jobs/s", ",.0f"),
        Column("coordinator", "coordinators, µs a job"),
        Column("redis", "Redis, µs a job"),
        Column("share", "share of the busiest", ".2f"),
    ),
    (Target("two ÷ one", lambda found: _rate(found, TWO) / _rate(found, ONE), 0.95),),
    "The same two children, below one coordinator or below one each.",
)  # fmt: skip


def main(arguments: list[str]) -> None:
    """Compare one and two."""
    options = options_from(NAME, arguments, repeats=5, jobs=40_000)
    cases = [
        Case(ONE, partial(_run, 1, 2, options.jobs)),
        Case(TWO, partial(_run, 2, 1, options.jobs)),
    ]
    answer(QUESTION, cases, options)


def _rate(medians: Medians, case: str) -> float:
    return medians[case]["per_second"]


def _run(coordinators: int, procs: int, jobs: int) -> Found:
    with private_server() as server:
        asyncio.run(noop.add(server.url, jobs))
        spec = {
            "url": server.url,
            "server_pid": server.pid,
            "queue": noop.QUEUE,
            "processor": program.task("noop"),
            "procs": procs,
            "concurrency": 1,
            "jobs": jobs,
            "start_at": program.soon(),
        }
        drains = [program.start("drain", spec) for _ in range(coordinators)]
        found = [program.finish(drain) for drain in drains]
    seconds = max(each["ended"] for each in found) - min(each["began"] for each in found)
    settled = [each["jobs"] for each in found]
    return {
        "per_second": sum(settled) / seconds,
        "coordinator": sum(each["coordinator"] for each in found) / sum(settled) * 1e6,
        # Each has seen all that Redis did.
        "redis": max(each["redis"] for each in found) / sum(settled) * 1e6,
        "share": max(settled) / sum(settled),
    }
