"""A processor of arrays and bytes: the far side of the tests of big data."""

from __future__ import annotations

import mmap
import os
import time
from typing import Any

import numpy as np

from sandboxq.child import arena


def process(job: Any) -> Any:
    """Do what the job is named for."""
    return _ACTIONS[job.name](job)


def _double(job: Any) -> dict[str, Any]:
    pixels = job.array("pixels")
    return {"doubled": pixels * 2, "thumb": bytes(job.binary("thumb"))[::-1], "k": job.data["k"]}


def _look(job: Any) -> dict[str, Any]:
    """Say what the view is like."""
    pixels = job.array("pixels")
    return {
        "owns": bool(pixels.flags.owndata),
        "writeable": bool(pixels.flags.writeable),
        "sum": int(pixels.sum()),
        "dtype": job.data["pixels"]["dtype"],
    }


def _back(job: Any) -> Any:
    return job.array()


def _data(job: Any) -> Any:
    return {"data": job.data, "again": (job.data["pixels"],)}


def _back_twice(job: Any) -> Any:
    if job.attempts_made == 0:
        message = "not yet"
        raise ValueError(message)
    return job.array()


def _ones(job: Any) -> Any:
    return np.ones(job.data["size"], np.uint8)


def _objects(_job: Any) -> Any:
    return np.array([object()])


def _text(job: Any) -> str:
    return "x" * int(job.data["size"])


def _missing(job: Any) -> Any:
    return job.array("nothing")


def _buffer(job: Any) -> dict[str, Any]:
    """Return what a Node producer sent as a Buffer."""
    return {"size": len(job.binary("file")), "copy": bytes(job.binary("file"))}


def _die(job: Any) -> None:
    job.array()
    os.kill(os.getpid(), 9)


def _hold(job: Any) -> int:
    """Keep the array for a while."""
    total = int(job.array().sum())
    time.sleep(job.array().nbytes and 0.5)
    return total


def _write(job: Any) -> str:
    """Try to change what was sent."""
    job.array()[0] = 1
    return "written"


def _fill_arena(job: Any) -> None:
    """Use the arena as memory that nobody counts."""
    fd = job._link.arena._fd
    memory = mmap.mmap(fd, arena.RESULTS)
    block = b"x" * (16 << 20)
    for start in range(0, arena.RESULTS, len(block)):
        memory[start : start + len(block)] = block
        time.sleep(0.002)


def _shrink_arena(job: Any) -> str:
    os.ftruncate(job._link.arena._fd, 0)
    return "shrunk"


def _big_then_sleep(_job: Any) -> Any:
    time.sleep(0.2)
    return np.ones(100 << 20, np.uint8)


_ACTIONS = {
    "double": _double,
    "look": _look,
    "back": _back,
    "data": _data,
    "back-twice": _back_twice,
    "ones": _ones,
    "objects": _objects,
    "text": _text,
    "missing": _missing,
    "buffer": _buffer,
    "die": _die,
    "hold": _hold,
    "write": _write,
    "fill-arena": _fill_arena,
    "shrink-arena": _shrink_arena,
    "big": _big_then_sleep,
}
