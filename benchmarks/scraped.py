"""What being asked by HTTP each second, by Prometheus and probes, costs the coordinator."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.request
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.noop import run
from benchmarks.question import Case, Column, Found, Question, Target, answer, options_from

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "scraped"
PATHS = ("/metrics", "/livez", "/readyz", "/v1/load")
WITHOUT = "without --http"
WITH = "with --http, four questions each second"

QUESTION = Question(
    NAME,
    "No-op jobs with and without --http",
    (
        Column("per_second", "jobs/s", ",.0f"),
        Column("coordinator", "coordinator, µs a job", ",.2f"),
        Column("asked", "answers", ",.0f"),
        Column("gap", "longest heartbeat gap, ms", ",.0f"),
    ),
    (
        Target(
            "coordinator's CPU a job, with / without",
            lambda found: found[WITH]["coordinator"] / found[WITHOUT]["coordinator"],
            1.01,
            is_at_most=True,
        ),
    ),
    "Two children. `/metrics`, `/livez`, `/readyz` and `/v1/load` are asked once a second.",
)


def main(arguments: list[str]) -> None:
    """Measure the same drain with and without."""
    options = options_from(NAME, arguments, repeats=6, jobs=60_000)
    cases = [
        Case(WITHOUT, partial(without, options.jobs)),
        Case(WITH, partial(with_http, options.jobs)),
    ]
    answer(QUESTION, cases, options)


def without(jobs: int) -> Found:
    """Drain."""
    return {**run(jobs=jobs, procs=2), "asked": 0}


def with_http(jobs: int) -> Found:
    """Drain while somebody asks."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with asking(address) as answers:
        found = run(jobs=jobs, procs=2, http=address)
    return {**found, "asked": len(answers)}


@contextlib.contextmanager
def asking(address: str) -> Iterator[list[int]]:
    """Ask from a thread of this process, once a second; yield the sizes of the answers."""
    answers: list[int] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.wait(1.0):
            for path in PATHS:
                with contextlib.suppress(OSError):  # not up yet, or not ready
                    url = f"http://{address}{path}"
                    with urllib.request.urlopen(url, timeout=10) as told:
                        answers.append(len(told.read()))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        is_over.set()
        thread.join()
