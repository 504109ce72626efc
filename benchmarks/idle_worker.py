"""A worker that serves until it is terminated, as a program for other benchmarks.

Standard input is ``{"url", "queue", "processor", "procs", "lock_duration" (seconds)}``, and
``policy`` unless it is "limits"; ``ready`` is printed when it claims jobs, and at the end a line
with the ``gaps`` between renewals of its locks in seconds, how many locks were ``lost``, and jobs
``stalled``.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

from sandboxq.cli import process
from sandboxq.cli.process import collect_rarely
from sandboxq.observe.telemetry import (
    Event,
    HeartbeatSent,
    JobsStalled,
    LocksLost,
    Telemetry,
)
from sandboxq.worker.worker import Worker


def main() -> None:
    """Serve until SIGTERM."""
    collect_rarely()  # as `sandboxq run` does
    print(json.dumps(process.run(_serve(json.load(sys.stdin)))))


async def _serve(spec: dict[str, Any]) -> dict[str, Any]:
    locks, telemetry = _Locks(), Telemetry()
    telemetry.subscribe(locks)
    worker = Worker(
        spec["queue"],
        spec["processor"],
        url=spec["url"],
        procs=spec["procs"],
        lock_duration=spec["lock_duration"],
        policy=spec.get("policy", "limits"),
        telemetry=telemetry,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    async with worker:
        print("ready", flush=True)
        await worker.run()
    return {"gaps": locks.gaps, "lost": locks.lost, "stalled": locks.stalled}


class _Locks:
    """When locks were renewed, and what was lost all the same."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self.lost = 0
        self.stalled = 0

    def __call__(self, event: Event) -> None:
        match event:
            case HeartbeatSent(gap=gap):
                self.gaps.append(gap)
            case LocksLost(job_ids=job_ids):
                self.lost += len(job_ids)
            case JobsStalled(job_ids=job_ids):
                self.stalled += len(job_ids)
            case _:
                pass


if __name__ == "__main__":
    main()
