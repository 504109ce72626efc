"""The live line of a running worker on a terminal: done, per second, waiting, failed, busy."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from sandboxq.errors import QueueError
from sandboxq.pool.children.circuit import CircuitState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandboxq.cli.output import Output
    from sandboxq.worker.worker import Worker

# Four times a second looks live and costs nothing; Redis is asked once a second.
FRAMES_PER_SECOND = 4
# The rate is that of the last so many seconds.
RATE_SECONDS = 3


class ProgressLine:
    """Draws the line while a worker runs."""

    def __init__(self, worker: Worker, output: Output) -> None:
        """Draw for ``worker``; ``output`` keeps it below what is logged."""
        self._worker = worker
        self._output = output
        self._waiting = 0
        self._done_before: list[int] = []

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show the line for the duration of the block."""
        drawing = asyncio.create_task(self._draw())
        try:
            yield
        finally:
            drawing.cancel()
            self._output.show("")
            with contextlib.suppress(asyncio.CancelledError):
                await drawing

    async def _draw(self) -> None:
        frame = 0
        while True:
            if frame % FRAMES_PER_SECOND == 0:
                await self._count_waiting()
            self._output.show(self._line())
            frame += 1
            await asyncio.sleep(1 / FRAMES_PER_SECOND)

    async def _count_waiting(self) -> None:
        keys = self._worker.keys
        lists = [("LLEN", keys["wait"]), ("LLEN", keys["paused"]), ("ZCARD", keys["prioritized"])]
        # While Redis is away, or refuses, the last number stays; the log says so.
        with contextlib.suppress(QueueError):
            self._waiting = sum(await self._worker.broker.pipeline(lists))

    def _line(self) -> str:
        counters = self._worker.counters
        done = counters.completed + counters.failed
        pool = self._worker.pool
        parts = [
            f"{done} done",
            f"{self._rate(done):.3g}/s",
            f"{self._waiting} waiting",
            f"{counters.failed} failed",
            f"{pool.busy}/{pool.size} children busy",
            f"longest heartbeat gap {counters.longest_gap:.2f} s",
        ]
        if pool.circuit.state is not CircuitState.CLOSED:
            parts.insert(0, f"circuit {pool.circuit.state.value}: see the log")
        return "  ·  ".join(parts)

    def _rate(self, done: int) -> float:
        self._done_before.append(done)
        del self._done_before[: -RATE_SECONDS * FRAMES_PER_SECOND - 1]
        frames = len(self._done_before) - 1
        return (done - self._done_before[0]) * FRAMES_PER_SECOND / frames if frames else 0.0
