"""Where do CPU-bound and I/O-bound jobs run best, and what becomes of the heartbeat.

The same jobs, four ways, while a heartbeat ticks every 50 ms in the loop that has to renew locks:

    (a) in one asyncio loop          as asyncio workers run them
    (b) in threads                   the loop hands each job to a thread pool
    (c) in sandboxq's children       through a real queue: add, claim, settle, locks and all
    (d) in threads without the GIL   (b) on a free-threaded interpreter, where there is one

Each run is a process of its own; ways alternate, so that a noisy minute hits all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.cpu_vs_io_chart import draw
from sandboxq.cli.demo import ready_made_processor
from sandboxq.cli.pictures import pictures_in
from sandboxq.sandbox.support import usable_cores

NAME = "cpu_vs_io"
CHECKOUT = Path(__file__).parents[1]
# Where a free-threaded interpreter is looked for, after the environment variable.
FREE_THREADED_ENV = "SANDBOXQ_FREE_THREADED_PYTHON"
FREE_THREADED = ("python3.14t", "python3.13t", "/opt/py314t/bin/python3.14t",
                 "/opt/py313t/bin/python3.13t")  # fmt: skip

BURN_SECONDS = 0.5
SLEEP_SECONDS = 0.1
WIDTH = 800
PHOTOGRAPHS = 8
# Per core, so that each way has some seconds to do; but no more than one loop does in a while.
BURNS_PER_CORE, MOST_BURNS = 4, 32
RESIZES_PER_CORE, MOST_RESIZES = 16, 128
SLEEP_JOBS = 600
SLEEPS_AT_ONCE = 60
RUN_SECONDS = 300

LOOP, THREAD, QUEUE, FREE = "asyncio loop", "threads", "sandboxq", "threads, no GIL"


@dataclass(frozen=True, slots=True)
class Workload:
    """The same jobs for every way."""

    name: str
    processor: str
    data: list[Any]
    is_io: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """One run; times in seconds."""

    workload: str
    way: str
    jobs: int
    seconds: float
    cpu_seconds: float
    longest_gap: float

    @property
    def per_second(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds

    @property
    def cores(self) -> float:
        """Cores kept busy, by all processes together."""
        return self.cpu_seconds / self.seconds


def main(arguments: list[str]) -> None:
    """Measure, print the table, write results and chart."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {NAME}")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way (default: 3)")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="where results go")
    options = parser.parse_args(arguments)
    neighbours = report.Neighbours()
    with tempfile.TemporaryDirectory() as folder:
        runs = _runs(_workloads(Path(folder)), options.repeats)
    surroundings = report.surroundings() | {
        "repeats": f"{options.repeats}, alternating; medians",
        "other programs": f"kept {neighbours.cores():.2f} cores busy meanwhile",
    }
    text = _text(runs, surroundings)
    print(text)
    measured = {"surroundings": surroundings, "runs": [asdict(run) for run in runs]}
    report.write(NAME, text=text, measured=measured, directory=options.out)
    draw(_series(runs), options.out / f"{NAME}.png", caption=_caption(surroundings))


# ── the jobs ────────────────────────────────────────────────────────────────


def _workloads(folder: Path) -> list[Workload]:
    cores = usable_cores().number
    burns = min(BURNS_PER_CORE * cores, MOST_BURNS)
    pictures = asyncio.run(pictures_in(folder / "photos", PHOTOGRAPHS, on_ready=lambda: None))
    resizes = [
        {"src": str(pictures[n % PHOTOGRAPHS]), "dst": f"{folder}/small/{n}.jpg", "width": WIDTH}
        for n in range(min(RESIZES_PER_CORE * cores, MOST_RESIZES))
    ]
    return [
        Workload("burn (pure Python)", _processor("burn"), [{"seconds": BURN_SECONDS}] * burns),
        Workload("resize (Pillow)", _processor("resize"), resizes),
        Workload(
            "sleep (async I/O)",
            _processor("sleep"),
            [{"seconds": SLEEP_SECONDS}] * SLEEP_JOBS,
            is_io=True,
        ),
    ]


def _processor(name: str) -> str:
    return str(ready_made_processor(name))


# ── the ways ────────────────────────────────────────────────────────────────


def _runs(workloads: list[Workload], repeats: int) -> list[Measured]:
    free_threaded = _free_threaded_python()
    ways = [LOOP, THREAD, QUEUE, *([FREE] if free_threaded else [])]
    runs = []
    for repeat in range(1, repeats + 1):
        for workload in workloads:
            for way in ways:
                print(f"{repeat}/{repeats}  {workload.name}, {way} …", file=sys.stderr)
                runs.append(_run(workload, way, free_threaded))
    return runs


def _run(workload: Workload, way: str, free_threaded: str) -> Measured:
    cores = usable_cores().number
    spec: dict[str, Any] = {"processor": workload.processor, "data": workload.data}
    at_once = SLEEPS_AT_ONCE if workload.is_io else cores
    if way == QUEUE:
        spec |= {"procs": cores, "concurrency": max(1, at_once // cores)}
        found = _program(sys.executable, "benchmarks.through_queue", spec)
    else:
        spec |= {"way": "loop" if way == LOOP else "threads", "at_once": at_once}
        python = free_threaded if way == FREE else sys.executable
        found = _program(python, "benchmarks.in_process", spec)
        if way == FREE and found["has_gil"]:
            message = f"{python} ran {workload.name} with the GIL switched on"
            raise SystemExit(message)
    numbers = {key: found[key] for key in ("seconds", "cpu_seconds", "longest_gap")}
    return Measured(workload.name, way, len(workload.data), **numbers)


def _program(python: str, module: str, spec: dict[str, Any]) -> dict[str, Any]:
    finished = subprocess.run(
        [python, "-m", module],
        cwd=CHECKOUT,
        input=json.dumps(spec),
        stdout=subprocess.PIPE,
        text=True,
        timeout=RUN_SECONDS,
        check=True,
    )
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def _free_threaded_python() -> str:
    """Return a free-threaded interpreter that has Pillow, or nothing."""
    for name in (os.environ.get(FREE_THREADED_ENV, ""), *FREE_THREADED):
        path = shutil.which(name) if name else None
        check = "import sys, PIL.Image; sys.exit(sys._is_gil_enabled())"
        if path and not subprocess.run([path, "-c", check], check=False).returncode:
            return path
    print("no free-threaded interpreter with Pillow: row (d) is left out", file=sys.stderr)
    return ""


# ── what is told ────────────────────────────────────────────────────────────


def _groups(runs: list[Measured]) -> dict[tuple[str, str], list[Measured]]:
    groups = defaultdict(list)
    for run in runs:
        groups[run.workload, run.way].append(run)
    return groups


def _series(runs: list[Measured]) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return the medians of (jobs per second, cores, longest gap) by workload and way."""
    return {
        key: (
            report.middle([run.per_second for run in group]),
            report.middle([run.cores for run in group]),
            report.middle([run.longest_gap for run in group]),
        )
        for key, group in _groups(runs).items()
    }


def _text(runs: list[Measured], surroundings: dict[str, str]) -> str:
    medians, groups = _series(runs), _groups(runs)
    rows = []
    for (workload, way), (per_second, cores, gap) in medians.items():
        ratio = per_second / medians[workload, LOOP][0]
        noise = report.spread([run.per_second for run in groups[workload, way]])
        cells = (f"{per_second:.1f}", f"{ratio:.2f}", noise, f"{cores:.2f}", f"{gap * 1000:.0f}")
        rows.append((workload, way, *cells))
    header = ("jobs", "way", "jobs/s", "times the loop", "spread", "cores used", "longest gap, ms")
    sizes = (
        f"burn: {BURN_SECONDS:g} CPU seconds a job; resize: 12-megapixel JPEG to {WIDTH} pixels; "
        f"sleep: {SLEEP_SECONDS:g} s. At once, each way: {usable_cores().number} CPU jobs, "
        f"{SLEEPS_AT_ONCE} sleeps. The CPU of sandboxq includes Redis and the coordinator. "
        f"The heartbeat ticks every 50 ms: 50 is perfect."
    )
    facts = "\n".join(f"- {name}: {value}" for name, value in surroundings.items())
    title = "# CPU-bound and I/O-bound jobs, four ways"
    picture = f"![throughput, cores used and longest heartbeat gap]({NAME}.png)"
    return "\n\n".join([title, picture, report.table(header, rows), sizes, facts]) + "\n"


def _caption(surroundings: dict[str, str]) -> str:
    keys = ("machine", "python", "date", "commit")
    return " · ".join(surroundings[key] for key in keys)
