"""The end of a worker: what runs may finish, the rest goes back, and all of it is settled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from sandboxq.errors import JobCancelled
from sandboxq.outcome import HandedBack
from sandboxq.worker.attempt import AttemptState

if TYPE_CHECKING:
    from sandboxq.pool.pool import Pool
    from sandboxq.worker.attempt import HeldJobs
    from sandboxq.worker.settler import Settler

_log = logging.getLogger("sandboxq.worker")

# What is left after the deadline for killing children and writing what is handed back.
LAST_WORDS = 5.0


class WindingDown:
    """Empties a worker that claims no more."""

    def __init__(
        self,
        pool: Pool,
        settler: Settler,
        held: HeldJobs,
        *,
        room: asyncio.Event,
        settled: asyncio.Event,
    ) -> None:
        """``room`` is set whenever a call has ended, ``settled`` after each batch that was."""
        self._pool = pool
        self._settler = settler
        self._held = held
        self._room = room
        self._settled = settled
        self.is_over = False  # not when whoever waited for it was cancelled

    async def run(self, timeout: float, hurry: asyncio.Event) -> None:
        """Finish what runs within the time, or until told to hurry; hand back the rest."""
        for call in self._pool.take_back():
            self._settler.hand_back(call.context)
        await self.wait_until_settled(timeout, hurry=hurry)
        await self._give_up_running()
        await self.wait_until_settled(LAST_WORDS)
        if self._held:
            _log.error(
                "%d jobs could not be settled; others will find them stalled", len(self._held)
            )
        self.is_over = True

    async def _give_up_running(self) -> None:
        """Kill what runs, and when all of it has gone, hand the jobs back in their order."""
        running = [
            attempt for attempt in self._held.values() if attempt.state is AttemptState.RUNNING
        ]
        for attempt in running:
            if attempt.call is None:
                continue
            if attempt.call.ending is None:
                attempt.state = AttemptState.GIVEN_UP
            self._pool.end_call(attempt.call, JobCancelled("the worker stops"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                while self._pool.held:
                    self._room.clear()
                    await self._room.wait()
        for attempt in running:
            if attempt.state is AttemptState.GIVEN_UP:
                self._settler.end(attempt, HandedBack(was_started=True))

    async def wait_until_settled(
        self, timeout: float, *, hurry: asyncio.Event | None = None
    ) -> None:
        """Return when nothing is held any more, when the time is up, or when told to hurry."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        events = [self._settled, hurry] if hurry else [self._settled]
        while self._held and loop.time() < deadline and not (hurry and hurry.is_set()):
            self._settled.clear()
            waiting = [asyncio.ensure_future(event.wait()) for event in events]
            try:
                await asyncio.wait(
                    waiting, timeout=deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                for each in waiting:
                    each.cancel()
