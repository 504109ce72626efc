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
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.held_jobs import HeldJobs
    from sandboxq.worker.settler import Settler

_log = logging.getLogger("sandboxq.worker")

# What is left after the deadline for killing children and writing what is handed back.
LAST_WORDS = 5.0


class WindingDown:
    """Empties a worker that claims no more."""

    def __init__(
        self, pool: Pool, settler: Settler, held: HeldJobs, *, room: asyncio.Event
    ) -> None:
        """``room`` is set whenever a call has ended."""
        self._pool = pool
        self._settler = settler
        self._held = held
        self._room = room
        self.is_over = False  # not when whoever waited for it was cancelled

    async def run(self, timeout: float, hurry: asyncio.Event) -> None:
        """Finish what runs within the time, or until told to hurry; hand back the rest."""
        for call in self._pool.take_back():
            self._settler.hand_back(call.context)
        await self._held.wait_until_idle(timeout, unless=hurry)
        await self._give_up()
        await self._held.wait_until_idle(LAST_WORDS)
        if self._held:
            _log.error(
                "%d jobs could not be settled; others will find them stalled", len(self._held)
            )
        self.is_over = True

    async def _give_up(self) -> None:
        """Kill what runs, and when all of it has gone, hand the jobs back in their order."""
        attempts = list(self._held.values())
        for attempt in attempts:
            self._give_up_one(attempt)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                while self._pool.held:
                    self._room.clear()
                    await self._room.wait()
        for attempt in attempts:
            if attempt.state is AttemptState.GIVEN_UP:
                self._settler.end(attempt, HandedBack(was_started=True))

    def _give_up_one(self, attempt: Attempt) -> None:
        match attempt.state:
            case AttemptState.CLAIMED:
                self._settler.hand_back(attempt)
            case AttemptState.RUNNING | AttemptState.ANSWERED if attempt.call is not None:
                if attempt.call.ending is None:
                    attempt.state = AttemptState.GIVEN_UP
                self._pool.end_call(attempt.call, JobCancelled("the worker stops"))
            case _:
                pass
