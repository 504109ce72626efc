"""Processors that attack the coordinator through what they share with it."""

from __future__ import annotations

import asyncio
import textwrap
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.pool.caller import Caller, open_pool, processor_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

POLICIES = ("strict", "limits")

_HEAD = """
import ctypes, fcntl, gc, os, signal, socket, struct, sys, threading, time

def link():
    from sandboxq.child.link import Link
    return next(o for o in gc.get_objects() if type(o) is Link and o._socket.fileno() >= 0)

def shared(word):
    for name in os.listdir("/proc/self/fd"):
        try:
            if word in os.readlink("/proc/self/fd/" + name): return int(name)
        except OSError: pass
    return -1

def frame(kind, seq, payload=b"", flags=0, detail=0, usage=(0, 0, 0)):
    return struct.pack("<BBHIQQQQ", kind, flags, detail, 0, seq, *usage) + payload

def allowed(deed, *arguments):
    # What the policy refuses is no attack any more.
    try: return deed(*arguments)
    except OSError as error: return str(error)
"""
_HONEST = """
def process(job):
    return attack(job) if job.data == "evil" else "ok"
"""


def attacker(folder: Path, text: str) -> Path:
    """Write a processor whose job "evil" is ``attack(job)``; all others return "ok"."""
    return processor_file(folder, _HEAD + textwrap.dedent(text) + _HONEST, "attacker.py")


@asynccontextmanager
async def attacked(folder: Path, text: str, **settings: Any) -> AsyncIterator[Caller]:
    """Open a pool of such a processor, of two children unless ``settings`` say otherwise."""
    async with open_pool(attacker(folder, text), **{"size": 2, **settings}) as caller:
        yield caller


def believe_short(caller: Caller) -> None:
    """Have the pool send jobs ahead, several in a packet, as it does where jobs are short."""
    for _ in range(100):
        caller.pool.placement.measure(0.00001)
    caller.pool.placement.adjust()


async def cpu_of(seconds: float) -> float:
    """Return the CPU seconds that this thread uses while ``seconds`` go by."""
    before = time.thread_time()
    await asyncio.sleep(seconds)
    return time.thread_time() - before
