"""Waits until Redis answers again: one probing loop for all callers; tells telemetry once."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING

from sandboxq.errors import BrokerUnavailable
from sandboxq.observe.telemetry import BrokerBack, BrokerLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.observe.telemetry import Event, Telemetry

FIRST_DELAY = 0.05
LONGEST_DELAY = 2.0
# Seconds. Full jitter may choose nearly 0; below this it would be a busy loop.
SHORTEST_DELAY = 0.01
# Seconds: an absence so soon after the last one is a relapse: Redis answers PING, then refuses the
# work. The delay goes on growing, else the callers would be a busy loop.
RELAPSE_SECONDS = 5.0
# So many relapses in a row are reported; one or two are services that noticed late.
RELAPSES_TO_SAY = 3


def delay_before_try(
    tries: int, *, uniform: Callable[[float, float], float] = random.uniform
) -> float:
    """Return the seconds to wait before try number ``tries``; the first one, 0, is made at once."""
    if tries == 0:
        return 0.0
    # 2**6 passes LONGEST_DELAY already; the bound keeps the power small however long Redis is away.
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(tries - 1, 16))
    return uniform(SHORTEST_DELAY, longest)


class Recovery:
    """Probes Redis until it answers, with back-off and full jitter, however many are waiting."""

    def __init__(self, probe: Callable[[], Awaitable[None]]) -> None:
        """``probe`` raises BrokerUnavailable while Redis is away."""
        self._probe = probe
        self._absence: asyncio.Future[None] | None = None
        self._loop_task: asyncio.Task[None] | None = None
        self._listeners: list[Telemetry] = []
        self._lost: BrokerLost | None = None
        self._lost_at = 0.0
        self._calm: asyncio.TimerHandle | None = None
        self._relapses = 0
        self._back_at = float("-inf")
        self._returned = asyncio.Event()

    async def wait(self, telemetry: Telemetry | None = None) -> None:
        """Return once Redis answers. BrokerLost and BrokerBack reach each ``telemetry`` once.

        Raises: BrokerUnavailable when the recovery is stopped meanwhile.
        """
        if self._absence is None:
            self._begin()
        if telemetry is not None and telemetry not in self._listeners:
            self._listeners.append(telemetry)
            if self._lost is not None:
                telemetry.emit(self._lost)
        if self._absence is not None:
            # Shielded, because one cancelled caller must not end the wait of the others.
            await asyncio.shield(self._absence)

    @property
    def seconds_since_return(self) -> float:
        """Seconds since Redis was back from the last noticed absence; inf: there was none."""
        return time.monotonic() - self._back_at

    def note_uptime(self, seconds: float) -> None:
        """Note for how many seconds the server has run: it was away before."""
        self._back_at = max(self._back_at, time.monotonic() - seconds)

    async def wait_for_return(self, timeout: float) -> None:
        """Return when Redis answers again after an absence, or after ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._returned.wait()

    def stop(self) -> None:
        """Give up: everybody who waits gets BrokerUnavailable."""
        if self._loop_task is not None:
            self._loop_task.cancel()
        if self._calm is not None:
            self._calm.cancel()
        if self._absence is not None and not self._absence.done():
            self._absence.set_exception(BrokerUnavailable("the connection to Redis was closed"))
            # Marked as seen: perhaps nobody waits any more.
            self._absence.exception()

    def _begin(self) -> None:
        relapsed = time.monotonic() - self._back_at < RELAPSE_SECONDS
        self._relapses = self._relapses + 1 if relapsed else 0
        if self._calm is not None:
            self._calm.cancel()
        self._absence = asyncio.get_running_loop().create_future()
        self._loop_task = asyncio.create_task(self._probe_until_back())
        self._loop_task.add_done_callback(self._pass_on_failure)

    async def _probe_until_back(self) -> None:
        goes_on_refusing = self._relapses >= RELAPSES_TO_SAY
        if goes_on_refusing:
            self._say_lost("it answers, but goes on refusing the work")
        tries = self._relapses
        while not await self._is_back(tries):
            tries += 1
        self._end()
        if goes_on_refusing:
            # An answer to PING is not enough: it is back when no caller returns here for a while.
            loop = asyncio.get_running_loop()
            self._calm = loop.call_later(RELAPSE_SECONDS, self._say_back)
        else:
            self._say_back()

    def _pass_on_failure(self, task: asyncio.Task[None]) -> None:
        """Tell those who wait that the loop has a bug; they would wait for ever."""
        error = None if task.cancelled() else task.exception()
        if error is not None and self._absence is not None and not self._absence.done():
            self._absence.set_exception(error)
            self._absence = None

    async def _is_back(self, tries: int) -> bool:
        await asyncio.sleep(delay_before_try(tries))
        try:
            await self._probe()
        except BrokerUnavailable as error:
            self._say_lost(str(error))
            return False
        return True

    def _end(self) -> None:
        self._back_at = time.monotonic()
        self._returned.set()  # for those who wait for it now, not for the next
        self._returned = asyncio.Event()
        absence, self._absence = self._absence, None
        self._loop_task = None
        if absence is not None and not absence.done():
            absence.set_result(None)

    def _say_lost(self, reason: str) -> None:
        if self._lost is None:
            self._lost = BrokerLost(reason)
            self._lost_at = time.monotonic()
            self._emit(self._lost)

    def _say_back(self) -> None:
        if self._lost is not None:
            self._emit(BrokerBack(self._back_at - self._lost_at))
        self._lost = None
        self._listeners.clear()

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener.emit(event)
