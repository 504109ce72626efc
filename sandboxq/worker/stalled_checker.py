"""Puts jobs back whose worker has stopped renewing their locks (protocol.md 3.18).

In the same rhythm it removes arrays and bytes whose job is gone (broker/commands/binary.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.broker.commands.binary import FIRST_PAGE, sweep
from sandboxq.broker.commands.locks import put_off_stalled, recover_stalled
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.observe.telemetry import JobsStalled
from sandboxq.worker.seldom import Seldom

if TYPE_CHECKING:
    from sandboxq.worker.context import WorkerContext


# A link that breaks all the time must not keep this worker from checking for ever.
_MOST_TIMES = 10


class StalledChecker:
    """Runs the two-phase check at start and every ``stalled_interval`` seconds.

    After an absence of Redis not before all workers had time to renew.
    """

    def __init__(self, context: WorkerContext) -> None:
        """Check the worker's queue."""
        self._broker = context.broker
        self._keys = context.keys
        self._settings = context.settings
        self._telemetry = context.telemetry
        self._sweep_at = FIRST_PAGE
        # In which every worker that lives has renewed its locks.
        settings = context.settings
        self._grace = min(settings.lock_duration, settings.stalled_interval)
        self._times_put_off = 0
        self._seldom = Seldom()

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            try:
                pause = await self._put_off()
                if not pause:
                    await self._sweep()
                    await self._check()
                    pause = self._settings.stalled_interval
            except BrokerUnavailable:
                await self._broker.wait_until_back(self._telemetry)
                continue
            except QueueError as error:
                self._seldom.warn("the check for stalled jobs was refused", error)
                pause = self._settings.stalled_interval
            await self._broker.wait_for_return(pause)

    async def _put_off(self) -> float:
        """Return for how many seconds nobody is to check, since Redis is only just back."""
        left = self._grace - self._broker.seconds_since_return
        if left <= 0 or self._times_put_off >= _MOST_TIMES:
            self._times_put_off = 0
            return 0.0
        self._times_put_off += 1
        left_for_all = self._grace - await self._broker.uptime()  # which may not be told: inf
        if left_for_all > 0:
            # It was away for all, not for this worker alone: this holds for Node's workers too.
            now_ms, for_ms = await self._broker.now_ms(), round(left_for_all * 1000)
            await put_off_stalled(self._broker, self._keys, now_ms=now_ms, for_ms=for_ms)
        return left

    async def _sweep(self) -> None:
        try:
            _, self._sweep_at = await sweep(self._broker, self._keys, self._sweep_at)
        except BrokerUnavailable:
            raise
        except QueueError as error:
            self._sweep_at = FIRST_PAGE
            self._seldom.warn("arrays and bytes of jobs that are gone are not removed", error)

    async def _check(self) -> None:
        stalled = await recover_stalled(
            self._broker,
            self._keys,
            now_ms=await self._broker.now_ms(),
            interval_ms=round(self._settings.stalled_interval * 1000),
            max_stalled_count=self._settings.max_stalled_count,
            is_server_time=True,
        )
        if stalled:
            self._telemetry.emit(
                JobsStalled([job_id.decode(errors="replace") for job_id in stalled])
            )
