"""How many lines that jobs print does ``run`` write a second, and are locks renewed meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import program
from benchmarks.question import (
    Case,
    Column,
    Found,
    Question,
    Target,
    answer,
    at_most,
    options_from,
)
from benchmarks.server import Server, private_server
from benchmarks.tree_cpu import cpu_seconds, tree_of
from sandboxq.queue.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "lines"
# Below what is kept of one job.
LINES_A_JOB = 9_900
TEXT, JSON = "text, 2 children", "JSON, 2 children"
_PIECE = 1 << 16
# What the lines of jobs hold, and others do not.
_PRINTED = b" of a job that says "

QUESTION = Question(
    NAME,
    "Lines that jobs print, written by `python -m sandboxq run`",
    (
        Column("per_second", "lines/s", ",.0f"),
        Column("gap", "longest heartbeat gap, s", ".2f"),
        Column("coordinator", "coordinator, µs a line", ".2f"),
        Column("redis", "Redis, µs a line", ".2f"),
        Column("children", "children, µs a line", ".2f"),
    ),
    (
        Target("lines/s", lambda found: found[TEXT]["per_second"], 50_000),
        at_most(TEXT, "gap", "longest heartbeat gap, s", 0.6),
    ),
    "Jobs that do nothing but print, policy `limits`; each line is kept with its job in Redis too. "
    "The output is a pipe that is read. Locks are renewed every 0.5 s.",
    ("per_second", "gap"),
)


def main(arguments: list[str]) -> None:
    """Compare the two formats of the log."""
    options = options_from(NAME, arguments, repeats=5, jobs=40)
    cases = [
        Case(TEXT, partial(_run, options.jobs, "text")),
        Case(JSON, partial(_run, options.jobs, "json")),
    ]
    answer(QUESTION, cases, options)


def _run(jobs: int, log_format: str) -> Found:
    with private_server() as server, _worker(server.url, log_format) as worker:
        pipe = worker.stdout.fileno() if worker.stdout is not None else -1
        _read_until(pipe, b"locks  ")
        before = _cpu(worker.pid, server)
        asyncio.run(_add(server.url, jobs))
        began, ended = _read_lines(pipe, jobs * LINES_A_JOB)
        after = _cpu(worker.pid, server)
        worker.terminate()
        gap = re.findall(rb"heartbeat gap ([0-9.]+) s", _read_until(pipe, b"heartbeat gap"))
    count = jobs * LINES_A_JOB
    return {
        "per_second": count / (ended - began),
        "gap": float(gap[-1]),
        **{place: (after[place] - before[place]) / count * 1e6 for place in after},
    }


@contextmanager
def _worker(url: str, log_format: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "sandboxq", "run", program.task("talk"), "--url", url]
    command += ["--queue", NAME, "--procs", "2", "--log-format", log_format]
    with subprocess.Popen(
        command, cwd=program.CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as worker:
        try:
            yield worker
        finally:
            worker.kill()


async def _add(url: str, jobs: int) -> None:
    async with Queue(NAME, url=url) as queue:
        await queue.add_bulk([("talk", {"lines": LINES_A_JOB}, {})] * jobs)


def _read_until(pipe: int, wanted: bytes) -> bytes:
    """Read what is written until the line that has ``wanted`` is whole; return all of it."""
    text = b""
    while wanted not in text or not text.endswith(b"\n"):
        text += _read(pipe)
    return text


def _read_lines(pipe: int, count: int) -> tuple[float, float]:
    """Read so many lines of jobs; return when the first came and the last."""
    text = _read(pipe)
    began = time.monotonic()
    while True:
        whole, newline, rest = text.rpartition(b"\n")
        count -= (whole + newline).count(_PRINTED)
        if count <= 0:
            return began, time.monotonic()
        text = rest + _read(pipe)


def _read(pipe: int) -> bytes:
    piece = os.read(pipe, _PIECE)
    if not piece or b"dropped" in piece:
        message = f"the worker has ended, or lines were dropped: {piece[-500:]!r}"
        raise SystemExit(message)
    return piece


def _cpu(coordinator: int, server: Server) -> dict[str, float]:
    return {
        "coordinator": cpu_seconds(coordinator),
        "redis": cpu_seconds(server.pid),
        "children": sum(map(cpu_seconds, set(tree_of(coordinator)) - {coordinator})),
    }
