"""What every peer's program does when it is started: ``add`` jobs, or measure their ``latency``.

Standard input of ``add`` is ``{"task": name, "data": [...]}``: a job for each item. Of ``latency``
it is ``{"jobs": n, "pause": seconds}``, and the last line of standard output is a list of
``[milliseconds to the start, milliseconds to the result]``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

SOCKET = os.environ.get("PEERS_SOCKET", "")
URL = f"unix://{SOCKET}"
# Whether the worker is to keep results, for peers that keep them only when told to.
RESULTS = "PEERS_RESULTS" in os.environ
# Jobs that one worker process runs at once, for peers that take it from their settings.
AT_ONCE = int(os.environ.get("PEERS_AT_ONCE", "1"))
# The first jobs open connections.
WARM_UP = 20
# How many calls of the peer's own enqueue are awaited together.
TOGETHER = 100

# Adds a job that returns the nanosecond at which it started, and waits for it.
Once = Callable[[], int]
AsyncOnce = Callable[[], Awaitable[int]]


def serve(add: Callable[[str, list[Any]], None], once: Once | None = None) -> None:
    """Do what the command line says, for peers whose calls block."""
    order = json.load(sys.stdin)
    if sys.argv[1] == "add":
        add(order["task"], order["data"])
        return
    assert once is not None
    found = []
    for _ in range(WARM_UP + order["jobs"]):
        time.sleep(order["pause"])
        began = time.monotonic_ns()
        found.append(_milliseconds(began, once()))
    print(json.dumps(found[WARM_UP:]))


async def serve_async(
    add: Callable[[str, list[Any]], Awaitable[None]], once: AsyncOnce | None = None
) -> None:
    """Do what the command line says, for peers whose calls are awaited."""
    order = json.load(sys.stdin)
    if sys.argv[1] == "add":
        await add(order["task"], order["data"])
        return
    assert once is not None
    found = []
    for _ in range(WARM_UP + order["jobs"]):
        await asyncio.sleep(order["pause"])
        began = time.monotonic_ns()
        found.append(_milliseconds(began, await once()))
    print(json.dumps(found[WARM_UP:]))


async def many(call: Callable[[Any], Awaitable[Any]], data: list[Any]) -> None:
    """Await the call for each item, some together."""
    for first in range(0, len(data), TOGETHER):
        await asyncio.gather(*(call(item) for item in data[first : first + TOGETHER]))


def _milliseconds(began: int, started: int) -> tuple[float, float]:
    return (started - began) / 1e6, (time.monotonic_ns() - began) / 1e6
