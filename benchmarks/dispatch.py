"""What does it cost to have a child do nothing, without a queue."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import program
from benchmarks.question import Case, Column, Found, Question, answer, at_most, options_from
from benchmarks.tree_cpu import cpu_seconds
from sandboxq.child.frames import encode_call
from sandboxq.cli import process
from sandboxq.observe.telemetry import Telemetry
from sandboxq.pool.calls import Call
from sandboxq.pool.pool import Pool

if TYPE_CHECKING:
    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.calls import Question as ChildQuestion

NAME = "dispatch"
CHILDREN = 2
OURS, BARE = f"sandboxq pool, {CHILDREN} children", f"ProcessPoolExecutor({CHILDREN})"
ROUND_TRIPS = 2_000

QUESTION = Question(
    NAME,
    "Dispatch of no-op calls to a pool alone",
    (
        Column("pipelined", "pipelined, µs a call"),
        Column("round_trip", "round trip, µs"),
        Column("coordinator", "coordinator CPU pipelined, µs a call"),
        Column("children", "children CPU pipelined, µs a call"),
    ),
    (
        at_most(OURS, "pipelined", "pipelined, µs a call", 15),
        at_most(OURS, "round_trip", "round trip, µs", 150),
    ),
    "A round trip wakes two idle cores; pipelined, neither side sleeps.",
    ("pipelined", "round_trip"),
)


def main(arguments: list[str]) -> None:
    """Compare the pool with the standard library's."""
    options = options_from(NAME, arguments, repeats=5, calls=50_000)
    cases = [
        Case(BARE, partial(_bare, options.calls // 10)),
        Case(OURS, lambda: process.run(_ours(options.calls))),
    ]
    answer(QUESTION, cases, options)


class Caller:
    """Keeps the pool full until so many calls are done."""

    def __init__(self) -> None:
        """Begin with nothing; whoever made it sets the pool."""
        self.pool: Pool
        self._left = 0
        self._unsent = 0
        self._at_once: int | None = None
        self._done: asyncio.Future[None]
        self._payload = encode_call(job_id=b"1", name=b"noop", data=b"{}", opts=b"{}")

    async def run(self, count: int, *, at_once: int | None = None) -> float:
        """Have ``count`` calls run; return the seconds that it took."""
        self._done = asyncio.get_running_loop().create_future()
        self._left = self._unsent = count
        self._at_once = at_once
        began = time.perf_counter()
        self.on_room()
        await self._done
        return time.perf_counter() - began

    def on_room(self) -> None:
        """Fill the pool."""
        room = self.pool.room() if self._at_once is None else self._at_once - self.pool.held
        count = min(room, self._unsent)
        self._unsent -= count
        self.pool.submit_all([Call(b"1", self._payload) for _ in range(count)])

    def on_outcome(self, call: Call, outcome: Outcome, seconds: float) -> None:
        """Count."""
        del call, outcome, seconds
        self._left -= 1
        if not self._left:
            self._done.set_result(None)

    def wants_reports(self) -> bool:
        """Say yes, always."""
        return True

    def on_report(self, call: Call, kind: str, payload: bytes) -> None:
        """Refuse: these jobs do nothing."""
        raise NotImplementedError

    def on_question(self, question: ChildQuestion) -> None:
        """Refuse: these jobs do nothing."""
        raise NotImplementedError

    def on_lines(self, call: Call | None, pid: int, stream: str, lines: list[str]) -> None:
        """Refuse: these jobs do nothing."""
        raise NotImplementedError


async def _ours(calls: int) -> Found:
    caller = Caller()
    caller.pool = Pool(
        program.task("noop"),
        size=CHILDREN,
        listener=caller,
        queue_name=NAME,
        telemetry=Telemetry(),
    )
    await caller.pool.start()
    try:
        await caller.run(2_000)
        children, own = sum(map(cpu_seconds, caller.pool.pids)), time.process_time()
        pipelined = await caller.run(calls) / calls
        own = (time.process_time() - own) / calls
        children = (sum(map(cpu_seconds, caller.pool.pids)) - children) / calls
        round_trip = await caller.run(ROUND_TRIPS, at_once=1) / ROUND_TRIPS
    finally:
        await caller.pool.stop(timeout=5)
    return {
        "pipelined": pipelined * 1e6,
        "round_trip": round_trip * 1e6,
        "coordinator": own * 1e6,
        "children": children * 1e6,
    }


def _bare(calls: int) -> Found:
    with ProcessPoolExecutor(CHILDREN) as pool:
        list(pool.map(_nothing, range(100)))
        began = time.perf_counter()
        list(pool.map(_nothing, range(calls)))
        pipelined = (time.perf_counter() - began) / calls
        began = time.perf_counter()
        for _ in range(ROUND_TRIPS // 10):
            pool.submit(_nothing, 1).result()
        round_trip = (time.perf_counter() - began) / (ROUND_TRIPS // 10)
    return {"pipelined": pipelined * 1e6, "round_trip": round_trip * 1e6}


def _nothing(number: int) -> None:
    del number
