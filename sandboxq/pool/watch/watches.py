"""What looks at the children of one pool from outside, and ends those that take too much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.pool.watch.cpu import CpuWatch
from sandboxq.pool.watch.loop import LoopWatch
from sandboxq.pool.watch.scratch import ScratchWatch
from sandboxq.pool.watch.tree import TreeWatch
from sandboxq.pool.watch.unresponsive import UnresponsiveWatch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sandboxq.errors import ChildError
    from sandboxq.observe.telemetry import Telemetry
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.options import PoolOptions
    from sandboxq.pool.pool import Pool


class Watches:
    """Those that a policy calls for."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        terms: PoolOptions,
        *,
        telemetry: Telemetry,
        max_block: float | None,
        on_held: Callable[[Child, bytes], None],
    ) -> None:
        """Watch the children of ``pool``; ``max_block`` and ``on_held``: see LoopWatch."""
        self._pool = pool
        supervisor, policy = pool.supervisor, terms.policy
        tree = TreeWatch(loop, supervisor, self._end, policy=policy)
        self._watches: list[TreeWatch | ScratchWatch | CpuWatch | LoopWatch | UnresponsiveWatch] = [
            tree,
            UnresponsiveWatch(loop, pool),
        ]
        if policy.name != "none":
            self._watches.append(ScratchWatch(loop, supervisor, self._end, policy))
        if policy.cpu_seconds is not None:
            self._watches.append(CpuWatch(loop, pool, policy.cpu_seconds))
        if terms.concurrency > 1:
            watch = LoopWatch(loop, pool, telemetry, limit=max_block, on_held=on_held)
            self._watches.append(watch)

    def start(self) -> None:
        """Look now, and again and again."""
        for watch in self._watches:
            watch.start()

    def stop(self) -> None:
        """Stop looking; twice is harmless."""
        for watch in self._watches:
            watch.stop()

    def _end(self, child: Child, error: ChildError) -> None:
        self._pool.doom(child, error, child.running_call())
