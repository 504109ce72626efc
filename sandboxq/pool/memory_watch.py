"""Watches the memory of children from outside: shared mappings escape the kernel's data limit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sandboxq.pool.process import Child

# A job that fills memory at 1 GB/s is seen 100 MB above its limit.
_INTERVAL = 0.1
# Libraries are mapped from files: they are resident, but are nobody's appetite.
_LIBRARIES = 64 << 20

_PAGE = os.sysconf("SC_PAGE_SIZE")


class MemoryWatch:
    """Looks at each child ten times a second."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        children: Callable[[], list[Child]],
        on_exceeded: Callable[[Child, int], None],
        *,
        max_result: int,
    ) -> None:
        """Look at ``children()``; call ``on_exceeded`` with a child and its resident bytes.

        What a job was sent in its arena, and a result of ``max_result`` there, do not count.
        """
        self._max_result = max_result
        self._loop = loop
        self._children = children
        self._on_exceeded = on_exceeded
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and again and again."""
        for child in self._children():
            child.arena.trim()
            if child.memory is None or not child.pid or child.doom is not None:
                continue
            resident = resident_bytes(child.pid)
            if resident > child.memory + _LIBRARIES:
                resident -= child.arena.resident(self._max_result)
            if resident > child.memory + _LIBRARIES:
                self._on_exceeded(child, resident)
        self._timer = self._loop.call_later(_INTERVAL, self.start)

    def stop(self) -> None:
        """Stop looking; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes, 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:  # noqa: PTH123 - ten times a second
            return int(statm.read().split()[1]) * _PAGE
    except OSError:
        return 0
