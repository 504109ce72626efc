"""How fast do large arrays travel: coordinator to child and back, and through Redis.

One array, several times; the first run is told apart, as it has fresh pages to fill. Through Redis
the array goes four times over a socket: added, claimed, returned, read. Each rate counts the array
once for each way: there and back is twice its size. What one copy in memory and the disk alone
would give is measured in the same run.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.question import Case, Column, Found, Question, Target, answer, options_from
from benchmarks.report import middle
from sandboxq.broker.connect.broker import Broker
from sandboxq.child.frames import encode_call
from sandboxq.cli import process
from sandboxq.observe.telemetry import Telemetry
from sandboxq.payload.binary import pieces_of, table_text, take_out
from sandboxq.pool.pool import Call, Pool
from sandboxq.queue.queue import Queue
from sandboxq.worker.worker import Worker

if TYPE_CHECKING:
    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.calls import Question as ChildQuestion

NAME = "big_data"
QUEUE = "benchmark"
PROCESSOR = """
def process(job):
    if job.name == "touch":
        return int(job.array()[::4096].sum())  # a byte of every page
    return job.array()
"""
THERE, BACK = "coordinator → child", "coordinator → child → coordinator"
COPY, DISK = "one copy in memory", "written to a file, fsync"
REDIS, REDIS_LOG = "add → run → result", "add → run → result, append-only file"

QUESTION = Question(
    NAME,
    "How fast arrays travel",
    (Column("rate", "GB/s", ".2f"), Column("first", "the first one, GB/s", ".2f")),
    (
        Target("to a child and back, GB/s", lambda found: found[BACK]["rate"], 5),
        Target("through Redis, GB/s", lambda found: found[REDIS]["rate"], 0.5),
    ),
    "Each rate counts the array once for each way: there and back is twice its size.",
)


def main(arguments: list[str]) -> None:
    """Measure each way."""
    options = options_from(NAME, arguments, repeats=3, megabytes=100, transfers=5)
    array, times = np.ones(options.megabytes << 20, np.uint8), options.transfers + 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.py"
        path.write_text(PROCESSOR, encoding="utf-8")
        shared = partial(_run, _shared_memory, str(path), array, times)
        redis = partial(_run, _redis, str(path), array, times)
        cases = [
            Case(COPY, partial(_copy, array, times)),
            Case(THERE, partial(shared, "touch")),
            Case(BACK, partial(shared, "back")),
            Case(REDIS, partial(redis, "no")),
            Case(DISK, partial(_disk, array, times)),
            Case(REDIS_LOG, partial(redis, "yes")),
        ]
        answer(QUESTION, cases, options, {"array": f"{options.megabytes} MB"})


def _run(measure: Any, processor: str, array: Any, times: int, variant: str) -> Found:
    return _found(process.run(measure(processor, array, times, variant)))


def _found(rates: list[float]) -> Found:
    first, *others = rates
    return {"rate": middle(others), "first": first}


def _copy(array: Any, times: int) -> Found:
    target, rates = np.empty_like(array), []
    for _ in range(times):
        began = time.perf_counter()
        target[:] = array
        rates.append(array.nbytes / (time.perf_counter() - began) / 1e9)
    return _found(rates)


def _disk(array: Any, times: int) -> Found:
    rates = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(times):
            began = time.perf_counter()
            file.seek(0)
            file.write(array.data)
            os.fsync(file.fileno())
            rates.append(array.nbytes / (time.perf_counter() - began) / 1e9)
    return _found(rates)


class _Blob:
    def __init__(self, array: Any) -> None:
        _, parts = take_out(array, "data")
        self.view = memoryview(b"".join(pieces_of(parts)))
        self.table = table_text([part.entry for part in parts]).encode()


class _Desk:
    """Waits for outcomes."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[Outcome]

    def on_outcome(self, call: Call, outcome: Outcome, seconds: float) -> None:
        del call, seconds
        self.ended.set_result(outcome)

    def on_report(self, call: Call, kind: str, payload: bytes) -> None: ...
    def wants_reports(self) -> bool:
        return True

    def on_question(self, question: ChildQuestion) -> None: ...

    def on_lines(self, call: Call | None, pid: int, stream: str, lines: list[str]) -> None:
        del call, pid, stream
        print(*lines, sep="\n")

    def on_room(self) -> None: ...


async def _shared_memory(processor: str, array: Any, times: int, name: str) -> list[float]:
    desk = _Desk()
    pool = Pool(processor, size=1, listener=desk, queue_name=QUEUE, telemetry=Telemetry())
    await pool.start()
    blob = _Blob(array)
    ways = {"touch": 1, "back": 2}[name]
    rates = []
    for _ in range(times):
        desk.ended = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        payload = encode_call(job_id=b"1", name=name.encode(), data=b"{}")
        pool.submit(Call(b"1", payload, blob=blob))
        await desk.ended
        rates.append(ways * array.nbytes / (time.perf_counter() - began) / 1e9)
    await pool.stop(timeout=5)
    return rates


async def _redis(processor: str, array: Any, times: int, persistence: str) -> list[float]:
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        broker = await Broker.connect(directory=directory)
        await broker.command("CONFIG", "SET", "appendonly", persistence)
        async with (
            Queue(QUEUE, broker=broker) as queue,
            Worker(QUEUE, processor, directory=directory, procs=1) as worker,
        ):
            running = asyncio.create_task(worker.run())
            for _ in range(times):
                began = time.perf_counter()
                job = await queue.add("back", array, remove_on_complete=True)
                value = await job.result(timeout=60)
                rates.append(2 * array.nbytes / (time.perf_counter() - began) / 1e9)
                assert value.nbytes == array.nbytes  # noqa: S101 - else there is nothing to measure
            worker.stop()
            await running
        await broker.close()
    return rates
