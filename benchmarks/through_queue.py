"""Runs jobs in sandboxed children, through a real queue, and prints what it took.

Started by benchmarks as a program. Standard input is ``{"processor": path, "data": [...],
"procs": n, "concurrency": n}``, the last line of standard output ``{"seconds", "cpu_seconds",
"longest_gap"}``. CPU seconds are those of coordinator, zygote, children and Redis together.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ticking import Heartbeat
from benchmarks.tree_cpu import tree_cpu_seconds
from sandboxq.cli import process
from sandboxq.observe.telemetry import Event, JobsSettled, Telemetry
from sandboxq.queue.queue import Queue
from sandboxq.worker.worker import Worker

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker

QUEUE = "benchmark"
ADD_BATCH = 1000


def main() -> None:
    """Do what standard input says, with an embedded server of its own."""
    spec = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(process.run(_measured(spec, Path(folder)))))


async def _measured(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    settled = _Settled()
    telemetry = Telemetry()
    telemetry.subscribe(settled)
    heartbeat = Heartbeat()
    async with Worker(
        QUEUE,
        spec["processor"],
        directory=folder,
        procs=spec["procs"],
        concurrency=spec["concurrency"],
        telemetry=telemetry,
    ) as worker:
        await _add(spec["data"], worker.broker.endpoint.url)
        server = await _server_pid(worker.broker)
        cpu_began, began = tree_cpu_seconds(server), time.perf_counter()
        async with heartbeat.beating():
            await worker.run(burst=True)
        cpu_seconds = tree_cpu_seconds(server) - cpu_began
    if settled.completed != len(spec["data"]):
        message = f"{settled.completed} of {len(spec['data'])} jobs completed"
        raise SystemExit(message)
    return {
        # To the last outcome in Redis; what follows is the burst looking whether more comes.
        "seconds": settled.last - began,
        "cpu_seconds": cpu_seconds,
        "longest_gap": heartbeat.longest_gap,
    }


class _Settled:
    """How many jobs were completed, and when the last one was."""

    def __init__(self) -> None:
        self.completed = 0
        self.last = 0.0

    def __call__(self, event: Event) -> None:
        match event:
            case JobsSettled(completed=completed):
                self.completed += completed
                self.last = time.perf_counter()
            case _:
                pass


async def _add(data: list[Any], url: str) -> None:
    async with Queue(QUEUE, url=url) as queue:
        for first in range(0, len(data), ADD_BATCH):
            await queue.add_bulk([("job", each, {}) for each in data[first : first + ADD_BATCH]])


async def _server_pid(broker: Broker) -> int:
    lines = bytes(await broker.command("INFO", "server")).decode().splitlines()
    return next(int(line.partition(":")[2]) for line in lines if line.startswith("process_id:"))


if __name__ == "__main__":
    main()
