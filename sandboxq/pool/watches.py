"""What looks at the children of one pool from outside, and ends those that take too much."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.pool.cpu_watch import CpuWatch
from sandboxq.pool.deaf_watch import DeafWatch
from sandboxq.pool.loop_watch import LoopWatch
from sandboxq.pool.scratch_watch import ScratchWatch
from sandboxq.pool.tree_watch import TreeWatch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sandboxq.errors import ChildError
    from sandboxq.pool.pool import Pool
    from sandboxq.pool.process import Child
    from sandboxq.pool.terms import Terms
    from sandboxq.telemetry import Telemetry


class Watches:
    """Those that a policy calls for."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        terms: Terms,
        *,
        telemetry: Telemetry,
        max_block: float | None,
        on_held: Callable[[Child, bytes], None],
    ) -> None:
        """Watch the children of ``pool``; ``max_block`` and ``on_held``: see LoopWatch."""
        self._pool = pool
        crew, policy = pool.crew, terms.policy
        tree = TreeWatch(loop, crew, self._end, policy=policy)
        self._watches: list[TreeWatch | ScratchWatch | CpuWatch | LoopWatch | DeafWatch] = [
            tree,
            DeafWatch(loop, pool),
        ]
        if policy.name != "none":
            self._watches.append(ScratchWatch(loop, crew, self._end, policy))
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
