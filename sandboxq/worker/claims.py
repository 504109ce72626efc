"""Asks Redis for jobs, now or when there are some; what it hands out is never forgotten.

Each claim has a token of its own: a run that outlives its lock cannot write under that of a later
run, and what a claim took is found by it when the reply was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING

from sandboxq.broker.claim import Claimant, claim
from sandboxq.broker.waiting_claim import WaitingClaim
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.job import JobOptions
from sandboxq.worker.attempt import Attempt
from sandboxq.worker.scheduler import SchedulerKeeper
from sandboxq.worker.unanswered import give_back_unanswered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.broker.claim import Claim, ClaimedJob
    from sandboxq.worker.context import WorkerContext
    from sandboxq.worker.settler import Settler

# A claim under way when the worker stops is answered at once, or Redis is away.
LAST_SECONDS = 1.0

_DEFAULT_OPTIONS = JobOptions()


class Claims:
    """The claims of one worker; ``start`` is given the jobs of each, and its token."""

    def __init__(
        self,
        context: WorkerContext,
        *,
        settler: Settler,
        start: Callable[[list[ClaimedJob], str], None],
    ) -> None:
        """Claim from the queue of this context."""
        self._context = context
        self._settler = settler
        self._start = start
        settings = context.settings
        limiter = settings.limiter
        window = None if limiter is None else (limiter.max, limiter.duration_ms)
        self._claimant = Claimant(settings.lock_ms, settings.name, window)
        name = context.keys.client_name
        self._waiting_claim = WaitingClaim(
            context.broker,
            context.keys,
            claimant=self._claimant,
            client_name=f"{name}:w:{settings.name}" if settings.name else name,
            clock=context.clock,
        )
        self._scheduler_keeper = SchedulerKeeper(context)
        self._worker_id = str(uuid.uuid4())
        self.number = 0
        # Claims whose reply was lost: Redis may have handed out jobs.
        self._lost_tokens: list[str] = []

    @property
    def is_waiting(self) -> bool:
        """Whether a claim sleeps in Redis until a job comes."""
        return self._waiting_claim.is_waiting

    async def open(self) -> None:
        """Connect what waits: a worker that never waits is on the dashboards by it too.

        Raises: BrokerUnavailable.
        """
        await self._waiting_claim.open()

    async def now(self, limit: int) -> Claim | None:
        """Claim up to ``limit`` jobs of those that are there."""
        return await self._ask(lambda token: self._claim(limit, token))

    async def when_marked(self, limit: int, timeout: float) -> Claim | None:
        """Claim when a marker says that there are jobs, or after ``timeout`` seconds.

        None when nothing was claimed, and ``now`` is to be called.
        """
        wait = self._waiting_claim.run
        return await self._ask(lambda token: wait(limit=limit, token=token, timeout=timeout))

    async def wake(self) -> None:
        """Have a claim that waits return at once; the next one waits again."""
        await self._waiting_claim.wake()

    async def give_back_lost(self) -> None:
        """Give back what claims took whose reply was lost: nobody else would for long."""
        while self._lost_tokens:
            await give_back_unanswered(self._context, self._lost_tokens[0])
            del self._lost_tokens[0]

    async def close(self) -> None:
        """Close the connection that waits; twice is harmless."""
        await self._waiting_claim.close()

    async def _ask(self, ask: Callable[[str], Awaitable[Claim | None]]) -> Claim | None:
        self.number += 1
        token = f"{self._worker_id}:{self.number}"
        asking = asyncio.ensure_future(self._ask_and_advance(ask(token), token))
        try:
            found = await asyncio.shield(asking)
        except BrokerUnavailable:
            self._lost_tokens.append(token)
            raise
        except asyncio.CancelledError:
            # Redis may have handed out jobs already: whoever stops the claimer hands them back.
            # Whatever becomes of the claim, its loop ends.
            with contextlib.suppress(QueueError, TimeoutError):
                await self._end(asking, token)
            raise
        if found is not None:
            self._start(found.jobs, token)
        return found

    async def _end(self, asking: Awaitable[Claim | None], token: str) -> None:
        """Take what the claim brings that is under way, without waiting for jobs to come."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._waiting_claim.end()
                found = await asking
        except (BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await give_back_unanswered(self._context, token)
            return
        if found is not None:
            self._start(found.jobs, token)

    async def _claim(self, limit: int, token: str) -> Claim:
        context, now_ms = self._context, self._context.clock.now_ms()
        return await claim(
            context.broker,
            context.keys,
            limit=limit,
            token=token,
            now_ms=now_ms,
            **self._claimant._asdict(),
        )

    async def _ask_and_advance(self, asking: Awaitable[Claim | None], token: str) -> Claim | None:
        found = await asking
        scheduled = [job for job in found.jobs if job.scheduler_id] if found is not None else []
        if found is None or not scheduled:
            return found
        try:
            await self._scheduler_keeper.advance(scheduled)
        except BrokerUnavailable:
            # Back they go, unstarted: whoever claims them next keeps their schedulers going.
            for job in scheduled:
                attempt = Attempt(job, token.encode(), _DEFAULT_OPTIONS)
                self._context.held[job.id] = attempt
                self._settler.hand_back(attempt)
            return found._replace(jobs=[job for job in found.jobs if not job.scheduler_id])
        return found
