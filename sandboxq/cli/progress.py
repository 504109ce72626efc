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
    from sandboxq.worker.group import WorkerGroup
    from sandboxq.worker.worker import Worker

# Four times a second looks live and costs nothing; Redis is asked once a second.
FRAMES_PER_SECOND = 4
# The rate is that of the last so many seconds.
RATE_SECONDS = 3


class ProgressLine:
    """Draws the line while a worker runs."""

    def __init__(self, group: WorkerGroup, output: Output) -> None:
        """Draw for the workers of ``group``; ``output`` keeps it below what is logged."""
        self._group = group
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
        # While Redis is away, or refuses, the last number stays; the log says so.
        with contextlib.suppress(QueueError):
            self._waiting = sum([await _waiting_for(each) for each in self._group.serving])

    def _line(self) -> str:
        counters = [worker.counters for worker in self._group.workers]
        pools = [worker.pool for worker in self._group.serving]
        failed = sum(each.failed for each in counters)
        done = sum(each.completed for each in counters) + failed
        parts = [
            *self._troubles(),
            f"{done} done",
            f"{self._rate(done):.3g}/s",
            f"{self._waiting} waiting",
            f"{failed} failed",
            f"{sum(each.busy for each in pools)}/{sum(each.size for each in pools)} children busy",
            f"longest heartbeat gap {max(each.longest_gap for each in counters):.2f} s",
        ]
        return "  ·  ".join(parts)

    def _troubles(self) -> list[str]:
        texts = [f"queue {queue} has ended: see the log" for queue in self._group.failures]
        for worker in self._group.serving:
            state = worker.pool.circuit.state
            if state is not CircuitState.CLOSED:
                of = f" of {worker.keys.queue}" if len(self._group.workers) > 1 else ""
                texts.append(f"circuit{of} {state.value}: see the log")
        return texts

    def _rate(self, done: int) -> float:
        self._done_before.append(done)
        del self._done_before[: -RATE_SECONDS * FRAMES_PER_SECOND - 1]
        frames = len(self._done_before) - 1
        return (done - self._done_before[0]) * FRAMES_PER_SECOND / frames if frames else 0.0


async def _waiting_for(worker: Worker) -> int:
    """Return how many jobs wait. Raises: QueueError."""
    keys = worker.keys
    lists = [("LLEN", keys["wait"]), ("LLEN", keys["paused"]), ("ZCARD", keys["prioritized"])]
    return sum(await worker.broker.pipeline(lists))
