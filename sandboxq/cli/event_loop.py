"""The loop that a command runs on: uvloop's, else asyncio's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a fresh loop, and close that."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes a loop. Not every interpreter has a wheel of uvloop."""
    try:
        import uvloop  # noqa: PLC0415 - it is not everywhere
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
