"""The class of our event loops: uvloop's where it is installed, else asyncio's own."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


@functools.cache
def loop_class() -> type[asyncio.AbstractEventLoop]:
    """Return the class. Not every interpreter has a wheel of uvloop."""
    base: Any
    try:
        from uvloop import Loop as base  # noqa: N813, PLC0415 - used where it is installed
    except ImportError:
        from asyncio import SelectorEventLoop  # noqa: PLC0415 - loaded by those who need a loop

        return SelectorEventLoop

    class Loop(base):  # type: ignore[misc]  # has no type here
        """Closes what was left open in any case.

        uvloop warns of each transport. Where warnings are errors, as in many a test run, the error
        keeps it from closing the transport, and it waits for that for ever.
        """

        def close(self) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("default", ResourceWarning)
                super().close()

    return Loop
