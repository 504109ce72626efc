"""What does each policy cost: a new child, a job, and memory.

A zygote with numpy and Pillow imported forks children under each policy. Measured are the time
from the request to READY, the round trip of a job that does nothing, and the memory that only one
child has (USS) after such a job.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report
from benchmarks.question import Case, Column, Found, Medians, Question, Target, answer, options_from
from sandboxq.child.frames import encode_call
from sandboxq.observe.telemetry import Telemetry
from sandboxq.pool.pool import Call, Pool
from sandboxq.sandbox.policy import NAMES
from sandboxq.sandbox.support import usable_cores

if TYPE_CHECKING:
    from sandboxq.model.outcome import Outcome

NAME = "policies"
_MB = 1 << 20
_PROCESSOR = "import numpy, PIL.Image\ndef process(job):\n    return None\n"


def _of(policy: str, key: str, found: Medians) -> float:
    return found[policy][key]


def _job_of_limits_to_none(found: Medians) -> float:
    return found["limits"]["job"] / found["none"]["job"]


def _most_unique(found: Medians) -> float:
    return max(each["unique"] for each in found.values())


QUESTION = Question(
    NAME,
    "What each policy costs",
    (
        Column("start", "start of a child, ms", ".2f"),
        Column("least", "its least, ms", ".2f"),
        Column("job", "round trip of a job, µs"),
        Column("unique", "unique memory, MB"),
    ),
    (
        Target("start under limits, ms", partial(_of, "limits", "start"), 4, is_at_most=True),
        Target("start under strict, ms", partial(_of, "strict", "start"), 6, is_at_most=True),
        Target("job under limits to none", _job_of_limits_to_none, 1.05, is_at_most=True),
        Target("unique memory, MB", _most_unique, 8, is_at_most=True),
    ),
    "A start is from the request to READY, out of a zygote with numpy and Pillow imported.",
)


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
    """Compare the policies."""
    options = options_from(NAME, arguments, repeats=5, starts=20, jobs=2000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "nothing.py")
        path.write_text(_PROCESSOR, encoding="utf-8")
        cases = [
            Case(name, partial(_measured, str(path), name, options.starts, options.jobs))
            for name in NAMES
        ]
        answer(QUESTION, cases, options)


def _measured(processor: str, policy: str, starts: int, jobs: int) -> Found:
    return asyncio.run(_found(processor, policy, starts, jobs))


async def _found(processor: str, policy: str, starts: int, jobs: int) -> Found:
    """Return medians of starts and jobs, and what one child alone has in the end."""
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
        seconds = [await _start(pool, cores) for _ in range(starts)]
        trips = [await _job(pool, listener) for _ in range(jobs)]
        unique = _unique_bytes(pool.pids[0])
    finally:
        await pool.stop(timeout=5)
    return {
        "start": report.middle(seconds) * 1e3,
        "least": min(seconds) * 1e3,
        "job": report.middle(trips) * 1e6,
        "unique": unique / _MB,
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
