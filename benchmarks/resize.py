"""How near does a queue come to a bare process pool when photographs are resized."""

from __future__ import annotations

import asyncio
import runpy
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from benchmarks import noop, program
from benchmarks.question import Case, Column, Found, Question, Target, answer, at_most, options_from
from benchmarks.server import private_server
from sandboxq.cli.demo import ready_made_processor
from sandboxq.cli.pictures import pictures_in
from sandboxq.queue.queue import Queue

NAME = "resize"
CHILDREN = 2
SIZE = (1600, 1200)
WIDTH = 320
PHOTOGRAPHS = 8
OURS, BARE = f"sandboxq, {CHILDREN} children", f"ProcessPoolExecutor({CHILDREN})"

QUESTION = Question(
    NAME,
    f"JPEGs of {SIZE[0]}×{SIZE[1]} to {WIDTH} pixels",
    (
        Column("per_second", "jobs/s"),
        Column("gap", "longest heartbeat gap, ms", ",.0f"),
    ),
    (
        Target("of the bare process pool",
               lambda found: found[OURS]["per_second"] / found[BARE]["per_second"], 0.98),
        at_most(OURS, "gap", "longest heartbeat gap, ms", 500),
    ),
    "The same function on the same files; sandboxq through Redis with locks, events and results.",
)  # fmt: skip


def main(arguments: list[str]) -> None:
    """Compare both on the same photographs."""
    options = options_from(NAME, arguments, repeats=5, jobs=400)
    with tempfile.TemporaryDirectory() as folder:
        data = photographs_for(Path(folder), options.jobs)
        cases = [Case(BARE, partial(in_bare_pool, data)), Case(OURS, partial(_in_queue, data))]
        answer(QUESTION, cases, options)


def photographs_for(folder: Path, jobs: int) -> list[dict[str, Any]]:
    """Make the photographs in the folder; return the data of so many jobs on them."""
    originals = asyncio.run(pictures_in(folder / "large", PHOTOGRAPHS, on_ready=lambda: None))
    for path in originals:
        with Image.open(path) as picture:
            picture.resize(SIZE).save(folder / path.name, quality=90)
    return [
        {
            "src": str(folder / originals[number % PHOTOGRAPHS].name),
            "dst": f"{folder}/small/{number}.jpg",
            "width": WIDTH,
        }
        for number in range(jobs)
    ]


def in_bare_pool(data: list[dict[str, Any]]) -> Found:
    """Resize them in a ProcessPoolExecutor, without any queue."""
    with ProcessPoolExecutor(CHILDREN, initializer=_load) as pool:
        list(pool.map(_resize, data[: 4 * CHILDREN]))  # both processes are up
        began = time.perf_counter()
        list(pool.map(_resize, data))
        return {"per_second": len(data) / (time.perf_counter() - began)}


_loaded: dict[str, Any] = {}


def _load() -> None:
    _loaded.update(runpy.run_path(str(ready_made_processor("resize"))))


def _resize(data: dict[str, Any]) -> Any:
    return _loaded["process"](SimpleNamespace(data=data))


def _in_queue(data: list[dict[str, Any]]) -> Found:
    with private_server() as server:
        asyncio.run(_add(server.url, data))
        spec = {
            "url": server.url,
            "server_pid": server.pid,
            "queue": NAME,
            "processor": str(ready_made_processor("resize")),
            "procs": CHILDREN,
            "concurrency": 1,
            "jobs": len(data),
        }
        return noop.found_from(program.run("drain", spec))


async def _add(url: str, data: list[dict[str, Any]]) -> None:
    async with Queue(NAME, url=url) as queue:
        await queue.add_bulk([("resize", each, {}) for each in data])
