"""How many jobs that wait 10 ms run a second, 500 at a time, in children."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import uvloop

from benchmarks import noop
from benchmarks.question import Case, Column, Found, Question, answer, options_from
from benchmarks.tasks.nap import process

NAME = "io"
AT_ONCE = 500

QUESTION = Question(
    NAME,
    f"10 ms of sleep a job, {AT_ONCE} at a time",
    (
        Column("per_second", "jobs/s", ",.0f"),
        Column("coordinator", "coordinator, µs a job"),
        Column("redis", "Redis, µs a job"),
        Column("children", "children, µs a job"),
    ),
    note="Plain asyncio is the limit: no queue, no process between. "
    "`python -m benchmarks peers` has the others in the same run.",
)


def main(arguments: list[str]) -> None:
    """Measure plain asyncio, and children of 500 and twice 250 jobs at once."""
    options = options_from(NAME, arguments, repeats=5, jobs=5_000)
    jobs = options.jobs
    cases = [
        Case("plain asyncio, no queue", partial(_plain, jobs)),
        *(
            Case(
                f"sandboxq, {procs} × {AT_ONCE // procs}",
                partial(noop.run, jobs=jobs, procs=procs, task="nap", concurrency=AT_ONCE // procs),
            )
            for procs in (1, 2)
        ),
    ]
    answer(QUESTION, cases, options)


def _plain(jobs: int) -> Found:
    async def seat(turns: int) -> None:
        for _ in range(turns):
            await process(None)

    async def all_seats() -> float:
        began = time.perf_counter()
        await asyncio.gather(*(seat(jobs // AT_ONCE) for _ in range(AT_ONCE)))
        return time.perf_counter() - began

    return {"per_second": jobs / uvloop.run(all_seats())}
