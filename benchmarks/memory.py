"""How much memory do the coordinator and each child hold of their own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks import program
from benchmarks.question import Case, Column, Found, Question, answer, at_most, options_from
from benchmarks.server import private_server
from benchmarks.tree_cpu import children_of, own_memory
from sandboxq.cli import process
from sandboxq.queue.queue import Queue

if TYPE_CHECKING:
    from subprocess import Popen

NAME = "memory"
MANY = 10
OURS = f"sandboxq, {MANY} children"

QUESTION = Question(
    NAME,
    "Memory with numpy and Pillow imported in the children",
    (
        Column("coordinator", "coordinator, MB"),
        Column("zygote", "zygote, MB"),
        Column("idle", "an idle child, MB", ",.2f"),
        Column("used", "a child after a job, MB", ",.2f"),
    ),
    (
        at_most(OURS, "coordinator", "coordinator, MB", 45),
        at_most(OURS, "idle", "an idle child, MB", 8),
        at_most(OURS, "used", "a child after a job, MB", 8),
    ),
    "Unique memory (USS: what would be free without the process), from smaps_rollup; of children "
    f"the mean of {MANY}.",
    ("coordinator", "zygote", "idle", "used"),
)


def main(arguments: list[str]) -> None:
    """Measure a worker with ten children, before and after they had jobs."""
    options = options_from(NAME, arguments, repeats=3)
    answer(QUESTION, [Case(OURS, partial(_run))], options)


def _run() -> Found:
    with private_server() as server:
        spec = {"queue": NAME, "processor": program.task("idle"), "procs": MANY}
        worker = program.start("idle_worker", {"url": server.url, "lock_duration": 30, **spec})
        program.wait_for_line(worker)
        zygote, children = _family(worker)
        idle = sum(map(own_memory, children)) / len(children)
        process.run(_give_each_a_job(server.url))
        found = {
            "coordinator": own_memory(worker.pid) / 1e6,
            "zygote": own_memory(zygote) / 1e6,
            "idle": idle / 1e6,
            "used": sum(map(own_memory, children)) / len(children) / 1e6,
        }
        worker.terminate()
        program.finish(worker)
        return found


def _family(worker: Popen[str]) -> tuple[int, list[int]]:
    (zygote,) = children_of(worker.pid)
    return zygote, children_of(zygote)


async def _give_each_a_job(url: str) -> None:
    async with Queue(NAME, url=url) as queue:
        for job in await queue.add_bulk([("shrink", {}, {})] * (20 * MANY)):
            await job.result(timeout=30)
