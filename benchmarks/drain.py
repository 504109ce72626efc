"""Drains a queue with one worker, as a program: where the CPU of a job goes.

Standard input is ``{"url", "server_pid", "queue", "processor", "procs", "concurrency", "jobs"}``:
it stops after so many ``jobs``, and begins at ``start_at`` of CLOCK_MONOTONIC if that is given;
``policy`` is "limits" unless it is given, and ``http`` an address where it is asked meanwhile.
The last line of standard output has ``jobs``, ``began`` and ``ended`` (the last outcome in Redis)
on that clock, CPU seconds of ``coordinator``, ``redis`` and ``children``, ``longest_gap`` of the
loop in seconds, and ``memory_growth`` of the coordinator in bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

from benchmarks.ticking import Heartbeat
from benchmarks.tree_cpu import cpu_seconds, own_memory
from sandboxq.cli import process
from sandboxq.cli.process import collect_rarely
from sandboxq.observe.telemetry import Event, JobsSettled, Telemetry
from sandboxq.worker.endpoints import Endpoints
from sandboxq.worker.worker import Worker


def main() -> None:
    """Do what standard input says."""
    collect_rarely()  # as `sandboxq run` does
    print(json.dumps(process.run(_measured(json.load(sys.stdin)))))


async def _measured(spec: dict[str, Any]) -> dict[str, Any]:
    heartbeat, telemetry = Heartbeat(), Telemetry()
    worker = Worker(
        spec["queue"],
        spec["processor"],
        url=spec["url"],
        procs=spec["procs"],
        concurrency=spec["concurrency"],
        policy=spec.get("policy", "limits"),
        telemetry=telemetry,
    )
    settled = _Settled(spec["jobs"], worker)
    telemetry.subscribe(settled)
    endpoints = Endpoints(spec["http"]) if "http" in spec else None
    if endpoints is not None:
        endpoints.add(worker)
    async with worker, endpoints or contextlib.nullcontext():
        collect_rarely()  # as `sandboxq run` does
        children = worker.pool.pids
        await asyncio.sleep(max(0.0, spec.get("start_at", 0.0) - time.monotonic()))
        memory, began = own_memory(), time.monotonic()
        before = _cpu(spec["server_pid"], children)
        async with heartbeat.beating():
            await worker.run(burst=True)
        after = _cpu(spec["server_pid"], children)
    return {
        "jobs": settled.count,
        "began": began,
        "ended": settled.last,
        "longest_gap": heartbeat.longest_gap,
        "memory_growth": own_memory() - memory,
        **{place: after[place] - before[place] for place in after},
    }


def _cpu(server_pid: int, children: list[int]) -> dict[str, float]:
    return {
        "coordinator": time.process_time(),
        "redis": cpu_seconds(server_pid),
        "children": sum(cpu_seconds(pid) for pid in children),
    }


class _Settled:
    """How many jobs were completed, and when the last one was; ends the worker after enough."""

    def __init__(self, enough: int, worker: Worker) -> None:
        self.count = 0
        self.last = 0.0
        self._enough = enough
        self._worker = worker

    def __call__(self, event: Event) -> None:
        match event:
            case JobsSettled(completed=completed) if completed:
                self.count += completed
                self.last = time.monotonic()
                if self.count >= self._enough:
                    self._worker.stop()
            case _:
                pass


if __name__ == "__main__":
    main()
