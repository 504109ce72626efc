"""What does a model of 200 MB cost that the module loads, and one that setup() loads."""

from __future__ import annotations

import time
from functools import partial

from benchmarks import program
from benchmarks.question import Case, Column, Found, Question, answer, options_from
from benchmarks.server import private_server
from benchmarks.tree_cpu import children_of, shared_memory, tree_of
from sandboxq.cli import process
from sandboxq.queue.queue import Queue

NAME = "models"
CHILDREN = 4

QUESTION = Question(
    NAME,
    f"A numpy array of 200 MB in {CHILDREN} children",
    (
        Column("ready", "worker ready, s", ",.2f"),
        Column("memory", "memory of all, MB"),
    ),
    (),
    "Memory is the PSS of zygote and children after all children have read the array, from "
    "smaps_rollup; pages that several of them share count once.",
    ("ready", "memory"),
)


def main(arguments: list[str]) -> None:
    """Start a worker of each kind, and have its children read the model."""
    options = options_from(NAME, arguments, repeats=3)
    cases = [
        Case("the module loads it", partial(_run, "model_in_module")),
        Case("setup() loads it", partial(_run, "model_in_setup")),
    ]
    answer(QUESTION, cases, options)


def _run(task: str) -> Found:
    with private_server() as server:
        spec = {"queue": NAME, "processor": program.task(task), "procs": CHILDREN}
        began = time.perf_counter()
        worker = program.start("idle_worker", {"url": server.url, "lock_duration": 30, **spec})
        program.wait_for_line(worker)
        ready = time.perf_counter() - began
        process.run(_use(server.url))
        (zygote,) = children_of(worker.pid)
        memory = sum(map(shared_memory, tree_of(zygote))) / 1e6
        worker.terminate()
        program.finish(worker)
        return {"ready": ready, "memory": memory}


async def _use(url: str) -> None:
    async with Queue(NAME, url=url) as queue:
        for job in await queue.add_bulk([("sum", {}, {})] * (10 * CHILDREN)):
            await job.result(timeout=60)
