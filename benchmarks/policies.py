"""What does each policy cost: a new child, a job, and memory.

A fork server with numpy and Pillow imported forks children under each policy. Measured are the time
from the request to READY, the round trip of a job that does nothing, and the memory that only one
child has (USS) after such a job.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report
from sandboxq.child.frames import encode_call
from sandboxq.pool.pool import Call, Pool
from sandboxq.sandbox.policy import NAMES
from sandboxq.sandbox.probe import usable_cores
from sandboxq.telemetry import Telemetry

if TYPE_CHECKING:
    from sandboxq.outcome import Outcome

NAME = "policies"
JOBS = 2000
STARTS = 20
_MB = 1 << 20
_PROCESSOR = "import numpy, PIL.Image\ndef process(job):\n    return None\n"


class _Listener:
    """Waits for the end of each call."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None]

    def on_outcome(self, call: Call, outcome: Outcome, *_: Any) -> None:
        del call, outcome
        self.ended.set_result(None)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def main(arguments: list[str]) -> None:
    """Measure, print the table, write the results."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {NAME}")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="where results go")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "nothing.py")
        path.write_text(_PROCESSOR, encoding="utf-8")
        rows = {name: asyncio.run(_measure(str(path), name)) for name in NAMES}
    surroundings = report.surroundings()
    facts = "\n".join(f"- {name}: {value}" for name, value in surroundings.items())
    header = ("policy", "start, ms", "job, µs", "unique memory, MB")
    cells = [(name, *(f"{value:.1f}" for value in row.values())) for name, row in rows.items()]
    text = "\n\n".join(["# What each policy costs", report.table(header, cells), facts]) + "\n"
    print(text)
    measured = {"surroundings": surroundings, "rows": rows}
    report.write(NAME, text=text, measured=measured, directory=options.out)


async def _measure(processor: str, policy: str) -> dict[str, float]:
    """Return medians: milliseconds of a start, microseconds of a job, megabytes of a child."""
    listener: Any = _Listener()
    cores = usable_cores().number  # with fewer children BLAS starts threads, and none is forked
    pool = Pool(
        processor,
        size=cores,
        listener=listener,
        queue_name="benchmark",
        telemetry=Telemetry(),
        policy=policy,
    )
    await pool.start()
    try:
        starts = [await _start(pool, cores) for _ in range(STARTS)]
        jobs = [await _job(pool, listener) for _ in range(JOBS)]
        unique = _unique_bytes(pool.pids[0]) / _MB
    finally:
        await pool.stop(timeout=5)
    return {
        "start_ms": report.middle(starts) * 1e3,
        "job_us": report.middle(jobs) * 1e6,
        "unique_mb": unique,
    }


async def _start(pool: Pool, cores: int) -> float:
    began = time.perf_counter()
    await pool.resize(cores + 1)
    seconds = time.perf_counter() - began
    await pool.resize(cores)
    while len(pool.pids) > cores:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    return seconds


async def _job(pool: Pool, listener: Any) -> float:
    listener.ended = asyncio.get_running_loop().create_future()
    payload = encode_call(job_id=b"1", name=b"nothing", data=json.dumps(None).encode())
    began = time.perf_counter()
    pool.submit(Call(b"1", payload))
    await listener.ended
    return time.perf_counter() - began


def _unique_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("Private_")]
    return sum(int(line.split()[1]) for line in lines) * 1024


if __name__ == "__main__":
    main([])
