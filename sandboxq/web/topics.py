"""The topics ``workers`` and ``overview``."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from sandboxq.broker.commands.queues import looks_at
from sandboxq.broker.commands.workers import worker_counts
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.queue.fleet import Fleet
from sandboxq.queue.watch import Watch
from sandboxq.web.live import FIRST_SECONDS, LINGER, Topic, live_of
from sandboxq.web.reads.overview import read_overview

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.keys import QueueKeys
    from sandboxq.web.context import Dashboard

# Seconds between two looks at the counts of queues.
_LOOKS = 2.0
# Workers of more queues are not asked: each is a message.
MOST_QUEUES = 200


async def watched_queues(dashboard: Dashboard) -> list[QueueKeys]:
    """Return the queues whose workers are asked."""
    found = await dashboard.queues()
    return [dashboard.keys(name) for name in found.names[:MOST_QUEUES]]


class WorkersTopic(Topic):
    """Hosts, their workers, their children, their jobs; and how much there is to do for them."""

    def __init__(self, dashboard: Dashboard) -> None:
        """See Topic."""
        super().__init__(dashboard)
        self._fleet = Fleet()
        self._watch: Watch | None = None
        self._queues: list[dict[str, Any]] = []
        self._looked_at = float("-inf")

    async def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Ask the workers."""
        clock = asyncio.get_running_loop().time
        self._watch = Watch(
            await self.dashboard.broker(),
            lambda row: self._fleet.take(row, clock()),
            queues=lambda: watched_queues(self.dashboard),
            prefix=self.dashboard.prefix,
        )
        tasks.create_task(self._watch.run())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await self._watch.asked.wait()

    async def tick(self) -> None:
        """Look at the queues now and then."""
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= _LOOKS:
            self._looked_at = now
            self._queues = await self._look()
        self.tell()

    def state(self) -> dict[str, Any]:
        """Return the tree, and the queues with what is free for them."""
        tree = self._fleet.tree(asyncio.get_running_loop().time())
        note = self.note_of(self._watch)
        workers = [worker for host in tree["hosts"] for worker in host["workers"]]
        for child in (child for worker in workers for child in worker["children"]):
            child["printed"] = self.dashboard.redaction.text(child["printed"])
        return {
            "is_live": not note,
            "note": note,
            "answered": len(workers),
            **tree,
            "queues": [_capacity(queue, workers) for queue in self._queues],
        }

    async def _look(self) -> list[dict[str, Any]]:
        broker, queues = await self.dashboard.broker(), await watched_queues(self.dashboard)
        looks = await looks_at(broker, queues, minutes=1, now_ms=await broker.now_ms())
        connected = await self._connected(queues)
        return [
            {
                "queue": keys.queue,
                "waiting": look.counts["waiting"] + look.counts["prioritized"],
                "delayed": look.counts["delayed"],
                "active": look.counts["active"],
                "is_paused": look.is_paused,
                "connected": connected.get(keys.queue, 0),
            }
            for keys, look in zip(queues, looks, strict=True)
            if not isinstance(look, QueueError) and look.exists
        ]

    async def _connected(self, queues: Sequence[QueueKeys]) -> dict[str, int]:
        try:
            return await worker_counts(await self.dashboard.broker(), queues)
        except BrokerUnavailable:
            raise
        except QueueError:  # this user may not ask
            return {}


def _capacity(queue: dict[str, Any], workers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a queue with what its workers have free, and when it is empty if all goes on so."""
    own = [it for it in workers if it["queue"] == queue["queue"]]
    rates = [it["rate"] for it in own if it["rate"] is not None]
    rate = sum(rates) if rates else None
    return {
        **queue,
        "workers": len(own),
        "others": max(0, queue["connected"] - len(own)),
        "places": sum(it["places"] for it in own),
        "free": sum(it["free"] for it in own),
        "rate": rate,
        "empty_in": queue["waiting"] / rate if rate and queue["waiting"] else None,
    }


class OverviewTopic(Topic):
    """All queues at a glance, and what their workers do together."""

    def __init__(self, dashboard: Dashboard) -> None:
        """See Topic."""
        super().__init__(dashboard)
        self._overview: dict[str, Any] = {}
        self._workers: dict[str, Any] = {}
        self._looked_at = float("-inf")

    async def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Nothing of its own: the workers are asked by their topic."""

    async def tick(self) -> None:
        """Read the queues now and then; keep the topic of the workers for as long."""
        workers = await live_of(self.dashboard).topic("workers", WorkersTopic, LINGER)
        self._workers = workers.state()["summary"]
        now = asyncio.get_running_loop().time()
        if now - self._looked_at >= _LOOKS:
            self._looked_at = now
            self._overview = dict(await read_overview(self.dashboard))
        self.tell()

    def state(self) -> dict[str, Any]:
        """Return what ``read_overview`` does, and the sums of all workers."""
        return {**self._overview, "workers": self._workers}
