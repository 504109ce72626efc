"""The end of a worker: what runs may finish, the rest goes back, and all of it is settled."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from sandboxq.errors import JobCancelled, OutcomesLost
from sandboxq.model.outcome import HandedBack
from sandboxq.worker.attempt import AttemptState

if TYPE_CHECKING:
    from sandboxq.pool.pool import Pool
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.context import HeldJobs
    from sandboxq.worker.settler import Settler

# What is left after the deadline for killing children and writing what is handed back.
LAST_WORDS = 5.0
# Of the jobs whose outcomes were lost, so many are named.
_MOST_NAMED = 20


class Shutdown:
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
        self.lost: list[str] = []  # the jobs whose outcomes Redis has not taken

    async def run(self, timeout: float, hurry: asyncio.Event) -> None:
        """Finish what runs within the time, or until told to hurry; hand back the rest."""
        for call in self._pool.take_back():
            self._settler.hand_back(call.context)
        await self._held.wait_until_idle(timeout, unless=hurry)
        if not self._is_all_ended() or hurry.is_set():
            await self._give_up()
            await self._held.wait_until_idle(LAST_WORDS)
        self.lost = [attempt.job.id.decode(errors="replace") for attempt in self._held.values()]
        self.is_over = True

    def check(self) -> None:
        """Raise OutcomesLost when Redis was away until the end."""
        if not self.lost:
            return
        lost, named = len(self.lost), ", ".join(self.lost[:_MOST_NAMED])
        more = ", …" if lost > _MOST_NAMED else ""
        message = (
            f"{lost} outcome{'s' if lost > 1 else ''} could not be written to Redis before the "
            f"shutdown timeout (jobs: {named}{more}): another worker finds these jobs stalled, "
            "and runs them again"
        )
        raise OutcomesLost(message)

    def _is_all_ended(self) -> bool:
        """Tell whether only Redis is waited for: it had the whole timeout."""
        return all(attempt.state is AttemptState.ENDED for attempt in self._held.values())

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
