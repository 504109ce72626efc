"""Are locks renewed on time while every core is wanted twice and a job holds the GIL in C."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import program
from benchmarks.question import Case, Column, Found, Question, Target, answer, at_most, options_from
from benchmarks.server import private_server
from sandboxq.queue.queue import Queue
from sandboxq.sandbox.support import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "heartbeat"
LOCK_SECONDS = 5.0
OURS = f"sandboxq, lock {LOCK_SECONDS:g} s"
BURN = "while True: pass"

QUESTION = Question(
    NAME,
    "Locks under load",
    (
        Column("gap_p999", "gap between renewals p99.9, s", ".3f"),
        Column("gap_max", "longest gap, s", ".3f"),
        Column("lost", "locks lost", ".0f"),
        Column("stalled", "jobs stalled", ".0f"),
        Column("runs", "runs a job", ".2f"),
    ),
    (
        Target("locks lost or stalled", lambda found: found[OURS]["lost"] + found[OURS]["stalled"],
               0, is_at_most=True),
        at_most(OURS, "gap_p999", "gap p99.9, s", 1),
    ),
    "Two burners a core beside the worker; each child runs a job that holds the GIL in C.",
    ("gap_p999", "gap_max"),
)  # fmt: skip


def main(arguments: list[str]) -> None:
    """Hold the GIL for a minute, or as long as asked."""
    options = options_from(NAME, arguments, repeats=1, seconds=60.0)
    answer(QUESTION, [Case(OURS, partial(_run, options.seconds))], options)


def _run(seconds: float) -> Found:
    with private_server() as server, _burners(2 * usable_cores().number):
        spec = {"queue": NAME, "processor": program.task("hold_gil"), "procs": 2}
        worker = program.start(
            "idle_worker", {"url": server.url, "lock_duration": LOCK_SECONDS, **spec}
        )
        program.wait_for_line(worker)
        runs = asyncio.run(_hold(server.url, seconds))
        worker.terminate()
        found = program.finish(worker)
    gaps = sorted(found["gaps"])
    return {
        "gap_p999": statistics.quantiles(gaps, n=1000, method="inclusive")[998],
        "gap_max": gaps[-1],
        "lost": found["lost"],
        "stalled": found["stalled"],
        "runs": runs,
    }


async def _hold(url: str, seconds: float) -> float:
    """Run two such jobs; return how often each was started, on average."""
    async with Queue(NAME, url=url) as queue:
        jobs = [await queue.add("hold", seconds) for _ in range(2)]
        deadline = time.monotonic() + 4 * seconds + 30
        for job in jobs:
            await job.result(timeout=deadline - time.monotonic())
        ended = [await queue.get_job(job.id) for job in jobs]
        return statistics.mean(job.attempts_started for job in ended if job is not None)


@contextmanager
def _burners(count: int) -> Iterator[None]:
    burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
