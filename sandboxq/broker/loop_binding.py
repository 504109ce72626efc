"""The process and the event loop that connections belong to: nobody else can use them."""

from __future__ import annotations

import asyncio
import os

# Connections of the process that this one was forked from. They must never be collected: closing
# a transport would edit the epoll set that the parent process still uses.
_of_parents: list[object] = []


class LoopBinding:
    """Where connections were made: this process and the running event loop."""

    __slots__ = ("_loop", "_pid")

    def __init__(self) -> None:
        """Take note of the process and of the loop that runs here."""
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is the same process, and the running loop is the same one."""
        return self._loop is asyncio.get_running_loop() and self._pid == os.getpid()

    @property
    def is_of_parent(self) -> bool:
        """Whether this process was forked from the one that made the connections."""
        return self._pid != os.getpid()

    @property
    def is_in_use(self) -> bool:
        """Whether the other loop runs now, which only another thread of this process can do."""
        return not self.is_of_parent and self._loop.is_running()


def leave_to_parent(connections: object) -> None:
    """Keep what belongs to the parent process, without ever using it."""
    _of_parents.append(connections)
