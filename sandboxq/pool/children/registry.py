"""The children of one pool: by number, by process, and those that are ready."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from sandboxq.pool.options import ChildState

if TYPE_CHECKING:
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.children.zygote_client import ZygoteClient

# To ask the class for a member takes ten times as long as a global.
_STARTING, _READY = ChildState.STARTING, ChildState.READY


class Registry:
    """Holds a child from its start until it is removed."""

    def __init__(self) -> None:
        """Begin without children."""
        self.by_number: dict[int, Child] = {}
        self.by_pid: dict[int, Child] = {}
        self.ready: list[Child] = []
        self.changed = asyncio.Event()

    @property
    def size(self) -> int:
        """How many children live or are being started, without those that leave or are spent."""
        size = 0
        for child in self.by_number.values():
            state = child.state
            if (state is _READY or state is _STARTING) and not child.is_spent:
                size += 1
        return size

    @property
    def fresh(self) -> int:
        """How many children are ready and may have more calls."""
        return sum(not child.is_spent for child in self.ready)

    def all(self) -> list[Child]:
        """Return every child that is not removed yet."""
        return list(self.by_number.values())

    def surplus(self, wanted: int) -> list[Child]:
        """Return the fresh children above the wanted number, those with the least to do first."""
        fresh = [child for child in self.ready if not child.is_spent]
        return sorted(fresh, key=lambda child: len(child.flying))[: max(0, len(fresh) - wanted)]

    def forked_by(self, server: ZygoteClient | None) -> list[Child]:
        """Return the children that a zygote has forked."""
        return [child for child in self.all() if child.source is server]

    def not_forked_by(self, server: ZygoteClient | None) -> list[Child]:
        """Return those that take calls, and then those that soon will, if not of this zygote."""
        others = [child for child in self.all() if child.source is not server]
        return [child for state in (_READY, _STARTING) for child in others if child.state is state]

    def not_ready(self, child: Child) -> None:
        """Remove a child from those that are ready, if it is one of them."""
        if child in self.ready:
            self.ready.remove(child)

    def remove(self, child: Child) -> bool:
        """Remove a child; False when it was removed before."""
        if self.by_number.pop(child.number, None) is None:
            return False
        self.by_pid.pop(child.pid, None)
        self.not_ready(child)
        return True

    async def change(self, timeout: float) -> None:
        """Wait for a start or a death, for at most ``timeout`` seconds."""
        self.changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, timeout)):
                await self.changed.wait()

    async def until_empty(self, timeout: float) -> None:
        """Wait until all children are removed, for at most ``timeout`` seconds."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        while self.by_number and clock() < deadline:
            await self.change(deadline - clock())
