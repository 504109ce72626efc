"""Finds children that live, and read nothing that they are sent: stopped, or shut from inside.

    idle ─► PING ─► no PONG ─┐
    given a call ─► not begun ┴─► five looks ─► ended; what it was given goes to others

Looks are counted, not seconds: whoever stops the coordinator too (a laptop that sleeps, a frozen
container) has not made its children deaf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.pool.breach import Breach
from sandboxq.pool.children.child_state import ChildState

if TYPE_CHECKING:
    import asyncio

    from sandboxq.pool.children.child import Child
    from sandboxq.pool.pool import Pool

_INTERVAL = 1.0
# So many looks without a sign: an idle child on a loaded machine answers in milliseconds.
_LOOKS = 5


class UnresponsiveWatch:
    """Looks at the children of one pool once a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool) -> None:
        """End children of ``pool``."""
        self._loop = loop
        self._pool = pool
        # By child: what it owes, and for how many looks it has owed just that.
        self._owed: dict[int, tuple[object, int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look now, and again and again."""
        owed, self._owed = self._owed, {}
        for child in self._pool.supervisor.children:
            if child.state in (ChildState.READY, ChildState.LEAVING) and child.doom is None:
                self._look(child, *owed.get(child.number, (None, 0)))
        self._timer = self._loop.call_later(_INTERVAL, self.start)

    def stop(self) -> None:
        """Stop looking; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, child: Child, before: object, looks: int) -> None:
        owes = child.owes()
        if owes is None:
            if child.state is ChildState.READY and not child.flying:
                child.ping()
            return
        looks = looks + 1 if owes == before else 0
        self._owed[child.number] = owes, looks
        if looks >= _LOOKS:
            child.is_deaf = True
            self._pool.end_breach(child, Breach("does not read what it is sent"))
