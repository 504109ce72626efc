"""Puts jobs back whose worker has stopped renewing their locks (bullmq-wire.md 3.18).

In the same rhythm it removes arrays and bytes whose job is gone (broker/binary.py).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sandboxq.broker.binary import FIRST_PAGE, sweep
from sandboxq.broker.stalled import recover_stalled
from sandboxq.errors import BrokerUnavailable
from sandboxq.telemetry import JobsStalled

if TYPE_CHECKING:
    from sandboxq.worker.context import WorkerContext


class StalledChecker:
    """Runs the two-phase check at start and every ``stalled_interval`` seconds."""

    def __init__(self, context: WorkerContext) -> None:
        """Check the worker's queue."""
        self._broker = context.broker
        self._keys = context.keys
        self._settings = context.settings
        self._telemetry = context.telemetry
        self._sweep_at = FIRST_PAGE

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            try:
                await self._check()
            except BrokerUnavailable:
                await self._broker.wait_until_back(self._telemetry)
                continue
            await asyncio.sleep(self._settings.stalled_interval)

    async def _check(self) -> None:
        _, self._sweep_at = await sweep(self._broker, self._keys, self._sweep_at)
        stalled = await recover_stalled(
            self._broker,
            self._keys,
            now_ms=await self._broker.now_ms(),
            interval_ms=round(self._settings.stalled_interval * 1000),
            max_stalled_count=self._settings.max_stalled_count,
        )
        if stalled:
            self._telemetry.emit(
                JobsStalled([job_id.decode(errors="replace") for job_id in stalled])
            )
