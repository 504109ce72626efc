"""How fast large arrays travel: coordinator to child and back, and through Redis.

One array, several times; the first run is told apart, as it has fresh pages to fill. Through Redis
the array goes four times over a socket: added, claimed, returned, read. Each rate counts the array
once for each way: there and back is twice its size.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import middle, spread, surroundings
from sandboxq.binary import pieces_of, table_text, take_out
from sandboxq.broker.connection import Broker
from sandboxq.child.frames import encode_call
from sandboxq.cli import event_loop
from sandboxq.pool.pool import Call, Pool
from sandboxq.queue.queue import Queue
from sandboxq.telemetry import Telemetry
from sandboxq.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.outcome import Outcome
    from sandboxq.pool.question import Question

QUEUE = "benchmark"
PROCESSOR = """
def process(job):
    if job.name == "touch":
        return int(job.array()[::4096].sum())  # a byte of every page
    return job.array()
"""


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="big_data", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    chosen = parser.parse_args(list(arguments))
    for name, value in surroundings().items():
        print(f"{name:<9} {value}")
    with tempfile.TemporaryDirectory() as folder:
        processor = Path(folder) / "arrays.py"
        processor.write_text(PROCESSOR, encoding="utf-8")
        array = np.ones(chosen.megabytes << 20, np.uint8)
        print(f"\n{chosen.megabytes} MB, GB/s, median of {chosen.repeats}\n")
        event_loop.run(_shared_memory(str(processor), array, chosen.repeats))
        for persistence in ("no", "yes"):
            event_loop.run(_redis(str(processor), array, chosen.repeats, persistence))


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

    def on_question(self, question: Question) -> None: ...

    def on_line(self, call: Call | None, pid: int, stream: str, line: str) -> None:
        del call, pid, stream
        print(line)

    def on_room(self) -> None: ...


async def _shared_memory(processor: str, array: Any, repeats: int) -> None:
    desk = _Desk()
    pool = Pool(processor, size=1, listener=desk, queue_name=QUEUE, telemetry=Telemetry())
    await pool.start()
    blob = _Blob(array)
    for name, ways in (("touch", 1), ("back", 2)):
        rates = []
        for _ in range(repeats + 1):
            desk.ended = asyncio.get_running_loop().create_future()
            began = time.perf_counter()
            payload = encode_call(job_id=b"1", name=name.encode(), data=b"{}")
            pool.submit(Call(b"1", payload, blob=blob))
            await desk.ended
            rates.append(ways * array.nbytes / (time.perf_counter() - began) / 1e9)
        label = {"touch": "coordinator → child", "back": "coordinator → child → coordinator"}[name]
        _print(label, rates)
    await pool.stop(timeout=5)


async def _redis(processor: str, array: Any, repeats: int, persistence: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        broker = await Broker.connect(directory=directory)
        await broker.command("CONFIG", "SET", "appendonly", persistence)
        async with (
            Queue(QUEUE, broker=broker) as queue,
            Worker(QUEUE, processor, directory=directory, procs=1) as worker,
        ):
            running = asyncio.create_task(worker.run())
            rates = []
            for _ in range(repeats + 1):
                began = time.perf_counter()
                job = await queue.add("back", array, remove_on_complete=True)
                value = await job.result(timeout=60)
                rates.append(2 * array.nbytes / (time.perf_counter() - began) / 1e9)
                assert value.nbytes == array.nbytes  # noqa: S101 - else there is nothing to measure
            worker.stop()
            await running
        await broker.close()
    log = "append-only file" if persistence == "yes" else "no append-only file"
    _print(f"add → run → result, {log}", rates)


def _print(label: str, rates: list[float]) -> None:
    first, *others = rates
    print(f"{label:<46} {middle(others):6.2f}  {spread(others):<14} first {first:.2f}")
