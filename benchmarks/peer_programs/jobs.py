"""The jobs that every Python peer runs, with nothing of any peer in them."""

from __future__ import annotations

import asyncio
import os
import runpy
import time
from types import SimpleNamespace
from typing import Any

NAP_SECONDS = 0.01
# Loaded when the worker starts, as the others load theirs; empty where no photographs are resized.
RESIZE = runpy.run_path(os.environ["PEERS_RESIZE"]) if "PEERS_RESIZE" in os.environ else {}


def noop(data: Any) -> None:
    """Do nothing."""


def resize(data: Any) -> Any:
    """Resize a photograph with the processor that sandboxq runs."""
    return RESIZE["process"](SimpleNamespace(data=data))


def stamp(data: Any) -> int:
    """Return nanoseconds of CLOCK_MONOTONIC."""
    return time.monotonic_ns()


def nap(data: Any) -> None:
    """Sleep, for peers that run many jobs at once in threads."""
    time.sleep(NAP_SECONDS)


async def async_noop(data: Any) -> None:
    """Do nothing."""


async def async_stamp(data: Any) -> int:
    """Return nanoseconds of CLOCK_MONOTONIC."""
    return time.monotonic_ns()


async def async_nap(data: Any) -> None:
    """Sleep."""
    await asyncio.sleep(NAP_SECONDS)
