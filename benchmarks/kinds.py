"""What do threads and interpreters do with several cores, and what does a call of them cost."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import program
from benchmarks.dispatch import Caller
from benchmarks.question import Case, Column, Found, Medians, Question, Target, answer, options_from
from benchmarks.tasks import count
from sandboxq.cli import process
from sandboxq.observe.telemetry import Telemetry
from sandboxq.pool.kinds import Kind, this_interpreter
from sandboxq.pool.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "kinds"
CHILDREN = 2
BARE = "bare threads: the limit"
# A lag of the loop is looked for so often.
_TICK = 0.001


def main(arguments: list[str]) -> None:
    """Compare the kinds that this interpreter has."""
    options = options_from(NAME, arguments, repeats=3, calls=20_000, jobs=40)
    kinds = [Kind.PROCESS, Kind.THREAD]
    if sys.version_info >= (3, 14):
        kinds.append(Kind.INTERPRETER)
    cases = [
        Case(kind.value, partial(_measured, kind, options.calls, options.jobs)) for kind in kinds
    ]
    cases.insert(0, Case(BARE, partial(_bare, options.jobs)))
    answer(_question(), cases, options)


def _question() -> Question:
    def of_threads(key: str, found: Medians) -> float:
        return found[Kind.THREAD.value][key]

    targets: Sequence[Target] = ()
    if not this_interpreter().has_gil:
        targets = (
            Target(f"{CHILDREN} threads to one, pure Python", partial(of_threads, "gain"), 1.7),
            Target("loop lag p99, ms", partial(of_threads, "lag"), 5, is_at_most=True),
        )
    return Question(
        f"{NAME}_{this_interpreter()}".replace(".", "_"),
        f"Kinds of children on Python {this_interpreter()}",
        (
            Column("gain", f"pure Python: {CHILDREN} children to one, times", ".2f"),
            Column("lag", "loop lag p99 meanwhile, ms", ".2f"),
            Column("pipelined", "no-op call pipelined, µs"),
            Column("round_trip", "no-op round trip, µs"),
        ),
        targets,
        "Jobs that do nothing but count, for 10 to 25 ms; a t marks a build without the GIL.",
    )


def _bare(jobs: int) -> Found:
    """Run the same function in threads without a pool."""
    return {"gain": _seconds_of_threads(1, jobs) / _seconds_of_threads(CHILDREN, jobs)}


def _seconds_of_threads(number: int, jobs: int) -> float:
    def work() -> None:
        for _ in range(jobs // number):
            count.process(None)

    threads = [threading.Thread(target=work) for _ in range(number)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def _measured(kind: Kind, calls: int, jobs: int) -> Found:
    return process.run(_found(kind, calls, jobs))


async def _found(kind: Kind, calls: int, jobs: int) -> Found:
    alone, _ = await _counting(kind, 1, jobs)
    together, lag = await _counting(kind, CHILDREN, jobs)
    caller = await _started(kind, CHILDREN, "noop")
    try:
        await caller.run(2_000)
        pipelined = await caller.run(calls) / calls
        round_trip = await caller.run(calls // 20, at_once=1) / (calls // 20)
    finally:
        await caller.pool.stop(timeout=5)
    return {
        "gain": alone / together,
        "lag": lag * 1e3,
        "pipelined": pipelined * 1e6,
        "round_trip": round_trip * 1e6,
    }


async def _counting(kind: Kind, children: int, jobs: int) -> tuple[float, float]:
    """Return the seconds that so many jobs took, and the lag of the loop that 1 % exceeded."""
    caller = await _started(kind, children, "count")
    lags: list[float] = []
    watch = asyncio.ensure_future(_watch(lags))
    try:
        await caller.run(children)
        lags.clear()
        return await caller.run(jobs), sorted(lags)[len(lags) * 99 // 100]
    finally:
        watch.cancel()
        await caller.pool.stop(timeout=5)


async def _started(kind: Kind, children: int, task: str) -> Caller:
    caller = Caller()
    caller.pool = Pool(
        program.task(task),
        size=children,
        listener=caller,
        queue_name=NAME,
        telemetry=Telemetry(),
        policy="none",
        kind=kind,
    )
    await caller.pool.start()
    return caller


async def _watch(lags: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(_TICK)
        lags.append(time.perf_counter() - began - _TICK)
