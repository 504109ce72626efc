"""Runs jobs in this very process, in its asyncio loop or in threads, and prints what it took.

Started by benchmarks as a program, on any interpreter: the standard library only. Standard input is
``{"way": "loop"|"threads", "processor": path, "data": [...], "at_once": n}``, the last line of
standard output ``{"seconds", "cpu_seconds", "longest_gap", "has_gil"}``.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.ticking import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable

    Process = Callable[[Any], Any]

# Between two jobs a real worker talks to Redis, and its loop has a turn for other things.
ROUND_TRIP = 0.001


def main() -> None:
    """Do what standard input says."""
    spec = json.load(sys.stdin)
    process = _processor(spec["processor"])
    jobs = [SimpleNamespace(data=data) for data in spec["data"]]
    run = _in_loop if spec["way"] == "loop" else _in_threads
    print(json.dumps(asyncio.run(_measured(run, process, jobs, spec["at_once"]))))


async def _measured(
    run: Callable[..., Any], process: Process, jobs: list[Any], at_once: int
) -> dict[str, Any]:
    heartbeat = Heartbeat()
    began, cpu_began = time.perf_counter(), time.process_time()
    async with heartbeat.beating():
        await run(process, jobs, at_once)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "longest_gap": heartbeat.longest_gap,
        # Asked last: an extension module may have switched it on meanwhile.
        "has_gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
    }


async def _in_loop(process: Process, jobs: list[Any], at_once: int) -> None:
    """As an asyncio worker does: so many jobs at once, each run by the loop itself."""
    slots = asyncio.Semaphore(at_once)

    async def attempt(job: Any) -> None:
        async with slots:
            value = process(job)
            if inspect.isawaitable(value):
                await value
            await asyncio.sleep(ROUND_TRIP)

    await asyncio.gather(*(attempt(job) for job in jobs))


async def _in_threads(process: Process, jobs: list[Any], at_once: int) -> None:
    def attempt(job: Any) -> Any:
        value = process(job)
        return asyncio.run(value) if inspect.iscoroutine(value) else value

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(at_once) as threads:
        await asyncio.gather(*(loop.run_in_executor(threads, attempt, job) for job in jobs))


def _processor(path: str) -> Process:
    spec = importlib.util.spec_from_file_location("processor", path)
    if spec is None or spec.loader is None:
        message = f"{path} is no Python file"
        raise SystemExit(message)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    process: Process = module.process
    return process


if __name__ == "__main__":
    main()
