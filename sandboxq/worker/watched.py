"""What is asked of one worker by HTTP: whether it takes jobs, and how much there is to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandboxq.broker.commands.load import QueueLoad, load_of
from sandboxq.pool.children.circuit import CircuitState
from sandboxq.worker.shared_answer import SharedAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandboxq.worker.measures import Measures
    from sandboxq.worker.worker import Worker

_SUMS = ("active", "waiting", "delayed", "children")
_HIGHEST = ("load", "oldest_waiting_seconds", "predicted_wait_seconds")


class Watched:
    """A worker that endpoints answer for; it need not be started."""

    def __init__(self, worker: Worker, measures: Measures) -> None:
        """Tell of ``worker``; ``measures`` are those of its queue."""
        self.worker = worker
        self.measures = measures
        self._redis = SharedAnswer(lambda: worker.broker.command("EXISTS", worker.keys["meta"]))
        self._load = SharedAnswer(lambda: load_of(worker.broker, worker.keys))

    async def readiness(self) -> dict[str, Any]:
        """Return what is so and what is not; ``ready`` is all of it."""
        worker = self.worker
        checks = dict.fromkeys(("started", "claiming", "children", "circuit", "redis"), False)
        if worker.is_running:
            checks |= {
                "started": True,
                "claiming": not worker.is_stopping,
                "children": bool(worker.pool.supervisor.ready),
                "circuit": worker.pool.circuit.state is CircuitState.CLOSED,
                "redis": await self._redis.get() is not None,
            }
        is_ready, is_paused = all(checks.values()), worker.is_running and worker.is_paused
        return {"queue": worker.keys.queue, "ready": is_ready, **checks, "paused": is_paused}

    async def load(self) -> QueueLoad | None:
        """Return how much there is to do in its queue; None while Redis does not tell."""
        return await self._load.get() if self.worker.is_running else None

    @property
    def slots(self) -> int:
        """How many jobs it can run at once."""
        worker = self.worker
        size = worker.pool.size if worker.is_running else worker.procs
        return max(1, size * worker.settings.concurrency)

    def row(self, load: QueueLoad) -> dict[str, Any]:
        """Return what scales the workers of its queue."""
        mean, slots = self.measures.mean_run, self.slots
        # All workers of the queue together run at least what is active.
        wait = None if mean is None else load.waiting * mean / max(load.active, slots)
        return {
            "queue": self.worker.keys.queue,
            "active": load.active,
            "waiting": load.waiting,
            "delayed": load.counts["delayed"],
            "children": slots,
            "load": (load.active + load.waiting) / slots,
            "oldest_waiting_seconds": load.oldest,
            "predicted_wait_seconds": wait,
        }


def total(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return one row for all queues: sums, and of load and waits the highest."""
    rows = list(rows)
    sums = {name: sum(row[name] for row in rows) for name in _SUMS}
    return {**sums, **{name: max((row[name] or 0 for row in rows), default=0) for name in _HIGHEST}}
