"""Whether a worker takes jobs, and if not, why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sandboxq.errors import SandboxqError
from sandboxq.pool.children.circuit import CircuitState

if TYPE_CHECKING:
    from sandboxq.worker.worker import Worker

# Redis answers within a millisecond; who waits longer than this is not ready.
_MOST_SECONDS = 1.0
# However many ask, Redis is asked so often.
_KEPT_SECONDS = 1.0


class Readiness:
    """Asks one worker, and for it Redis."""

    def __init__(self, worker: Worker) -> None:
        """Ask ``worker``, which need not be started."""
        self._worker = worker
        self._asking: asyncio.Task[bool] | None = None
        self._asked_at = 0.0

    async def row(self) -> dict[str, Any]:
        """Return what is so and what is not; ``ready`` is all of it."""
        worker = self._worker
        checks = dict.fromkeys(("started", "claiming", "children", "circuit", "redis"), False)
        is_paused = worker.is_running and worker.is_paused
        if worker.is_running:
            checks |= {
                "started": True,
                "claiming": not worker.is_stopping,
                "children": bool(worker.pool.supervisor.ready),
                "circuit": worker.pool.circuit.state is CircuitState.CLOSED,
                "redis": await self._has_redis(),
            }
        is_ready = all(checks.values())
        return {"queue": worker.keys.queue, "ready": is_ready, **checks, "paused": is_paused}

    async def _has_redis(self) -> bool:
        now = asyncio.get_running_loop().time()
        if self._asking is None or now - self._asked_at > _KEPT_SECONDS:
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask())
        # Shielded: who gives up must not end it for the others.
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        worker = self._worker
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                await worker.broker.command("EXISTS", worker.keys["meta"])
        except (TimeoutError, SandboxqError):
            return False
        return True
