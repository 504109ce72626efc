"""Whoever is killed or stopped, each call ends exactly once: completed, or as a death with a name.

Calls of 0 to 50 ms go through a pool while its children, its spare and its fork server get
SIGKILL, SIGSEGV, SIGTERM, SIGSTOP and SIGCONT at random. In the end all are let go on, and every
call must have been told.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxq.cli import process
from sandboxq.model.outcome import Completed
from sandboxq.sandbox.processes import descendants_of
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from tests.pool.caller import Caller

_PROCESSOR = """
import time
def process(job):
    if job.data:
        time.sleep(job.data)
    return job.id
"""
_SECONDS_OF_CALLS = (0, 0, 0, 0, 0, 0.002, 0.05)
_MOST_IN_FLIGHT, _MOST_ADDED = 60, 30
_TO_CHILDREN = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGSTOP, signal.SIGCONT)
_TO_OTHERS = (signal.SIGKILL, signal.SIGSTOP)
_POOL_SECONDS = 20.0  # then a new one, of another policy
_DRAIN_SECONDS = 60.0


def fuzz(seconds: float, seed: int) -> list[str]:
    """Return what went wrong within ``seconds``; print what was done."""
    found: list[str] = []
    deadline = time.monotonic() + seconds
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # a death in each second
    try:
        while time.monotonic() < deadline and not found:
            found = process.run(
                _campaign(rng, min(deadline, time.monotonic() + _POOL_SECONDS), counts)
            )
    finally:
        logging.disable(before)
    print(", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())), flush=True)  # noqa: T201 - a command's output
    return found


async def _campaign(rng: random.Random, deadline: float, counts: Counter[str]) -> list[str]:
    """Use one pool until ``deadline``; return what went wrong."""
    policy = rng.choice(("none", "limits", "strict"))
    with tempfile.TemporaryDirectory() as folder:
        _readable_by_children(Path(folder))
        async with open_pool(
            processor_file(Path(folder), _PROCESSOR), size=3, policy=policy
        ) as caller:
            while time.monotonic() < deadline:
                _add(caller, rng)
                await asyncio.sleep(rng.random() * 0.05)
                _hurt(caller, rng, counts)
            untold = await _drain(caller)
    counts["calls"] += len(caller.outcomes)
    counts.update(type(outcome).__name__ for outcome in caller.outcomes.values())
    return [f"{policy}: no outcome of {key!r}" for key in untold] + _wrong_values(caller)


def _readable_by_children(folder: Path) -> None:
    folder.chmod(0o755)


def _add(caller: Caller, rng: random.Random) -> None:
    if caller.pool.held < _MOST_IN_FLIGHT:
        caller.submit_all(
            [rng.choice(_SECONDS_OF_CALLS) for _ in range(rng.randrange(_MOST_ADDED))]
        )


def _hurt(caller: Caller, rng: random.Random, counts: Counter[str]) -> None:
    """In one turn of ten signal a child, in one of twenty the spare or the fork server."""
    chance = rng.random()
    server = caller.pool.supervisor.server
    children = caller.pool.pids
    if chance < 0.10 and children:
        _send(rng.choice(children), rng.choice(_TO_CHILDREN), "child", counts)
    elif chance < 0.14 and server is not None:
        spares = [pid for pid in descendants_of(server.pid) if pid not in children]
        for pid in spares[:1]:
            _send(pid, rng.choice(_TO_OTHERS), "spare", counts)
    elif chance < 0.15 and server is not None:
        _send(server.pid, rng.choice(_TO_OTHERS), "fork server", counts)


def _send(pid: int, number: signal.Signals, whom: str, counts: Counter[str]) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        counts[f"{number.name} to {whom}"] += 1


async def _drain(caller: Caller) -> list[bytes]:
    """Let all go on; return the calls that have no outcome after a minute."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while caller.untold and time.monotonic() < deadline:
        for pid in descendants_of(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.1)
    return caller.untold


def _wrong_values(caller: Caller) -> list[str]:
    return [
        f"{key!r} was told the value {outcome.value!r}"
        for key, outcome in caller.outcomes.items()
        if isinstance(outcome, Completed) and json.loads(outcome.value) != key.decode()
    ]
