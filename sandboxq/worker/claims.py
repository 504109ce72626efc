"""Claims jobs; what a claim took goes back when its reply is lost.

    claim ──reply──► HeldJobs.hold ──► start
      │                    └─ jobs of schedulers: what follows them is made, then start
      └──anything else──► token is lost ──► LostClaims

Each claim has a token of its own: a run that outlives its lock cannot write under that of a later
run, and what a claim took is found by it when the reply was lost or could not be read.

Jobs that are locked by the token of a lost claim go back, at once and again for some seconds: the
command may still be on its way, or wait in Redis behind a connection that is dead on our side only.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING

from sandboxq.broker.commands.attempts import Settlement, settle
from sandboxq.broker.commands.claim import Bounds, Claimant, WaitingClaim, claim_as, locked_by
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.model.outcome import HandBack
from sandboxq.worker.attempt import AttemptState
from sandboxq.worker.scheduler import SchedulerAdvancer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from sandboxq.broker.commands.claim import Claim
    from sandboxq.config import WorkerSettings
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.context import WorkerContext
    from sandboxq.worker.settler import Settler

_log = logging.getLogger("sandboxq.worker")

# A claim puts its jobs in front of the active list; what has been claimed since is before them.
# While outcomes cannot be written that is any number: all are looked at, but only so many of them
# where the last look was a moment ago.
_LOOK_AT = 5000
# A claim waits in Redis for a job that long at most, and not much longer on its way there. Only
# where the former connection cannot be ended (broker/connect/abandoned.py) is there something to
# find later.
_WATCH_SECONDS = 20.0
_LOOK_EVERY = 0.5
# Seconds from a failed try to the next at most, even if Redis seems away, for what has to come
# through while a lock lasts.
RETRY_SECONDS = 0.25
# The part of a lock's time for which the answer to such a try is waited for, but not less seconds.
_SILENCE = 0.25
_LEAST_SILENCE = 1.0

# A claim under way when the worker stops is answered at once, or Redis is away.
LAST_SECONDS = 1.0
# What one claim brings at most, unless a single job has more: seconds of a slow link, after which
# the first jobs run while the next are on their way, and no large memory.
MOST_BYTES = 4 << 20
# After an answer was lost on its way the next one is to be so many times smaller.
_SMALLER = 8
# An answer that was lost with less than that was hardly lost for its size.
_LARGE = 256 << 10
# A claim of which so much has come, or that has taken this part of a lock's time, may be long on
# its way: its locks are renewed meanwhile.
_RENEW_AFTER = 0.25


def silence_of(settings: WorkerSettings) -> float:
    """Return for how many seconds Redis may be silent to what has to come through in time.

    Long before the locks run out another connection is tried.
    """
    return max(_LEAST_SILENCE, settings.lock_duration * _SILENCE)


class LostClaims:
    """A service, and the list of the tokens.

    Who claims waits for an absence of Redis to end, which may take longer than the locks last that
    nobody renews; so the service does not wait, it tries.
    """

    def __init__(self, context: WorkerContext) -> None:
        """Give back to the queue of this context."""
        self._context = context
        self._lost: list[str] = []
        self._watched: dict[str, float] = {}
        self._work = asyncio.Event()
        self._turn = asyncio.Lock()
        self._time = asyncio.get_running_loop().time
        self._locks_until = 0.0

    def add(self, token: str) -> None:
        """Take note of a claim whose answer is lost: Redis may have handed out jobs, or will."""
        self._lost.append(token)
        self._locks_until = self._time() + self._context.settings.lock_duration
        self._work.set()

    async def give_back(self) -> None:
        """Give back what the claims took by now. Raises: BrokerUnavailable, QueueError."""
        async with self._turn:
            if not self._lost:
                return
            tokens = self._lost[:]
            await self._give_back(tokens)
            del self._lost[: len(tokens)]
            self._watched.update(dict.fromkeys(tokens, self._time() + _WATCH_SECONDS))

    async def run(self) -> None:
        """Give back, and look again for a while after each loss, until cancelled."""
        look_at = 0
        while True:
            # First what lies there: whoever ran before this may have left it.
            self._work.clear()
            while self._lost or self._watched:
                try:
                    await self.give_back()
                    await asyncio.sleep(_LOOK_EVERY)
                    await self._look_again(look_at)
                    look_at = _LOOK_AT
                except BrokerUnavailable:
                    look_at = 0
                    await self._wait_until_back()
            await self._work.wait()

    async def _look_again(self, look_at: int) -> None:
        now = self._time()
        await self._give_back(self._watched, look_at)
        self._watched = {token: until for token, until in self._watched.items() if until > now}

    async def _wait_until_back(self) -> None:
        """Wait for Redis, but not for long while the locks of a lost claim last."""
        context, is_urgent = self._context, self._time() < self._locks_until
        at_most = RETRY_SECONDS if is_urgent else None
        await context.broker.wait_until_back(context.telemetry, at_most=at_most)

    async def _give_back(self, tokens: Collection[str], look_at: int = 0) -> None:
        """Put the jobs that are locked by these tokens back where they were.

        Nobody else can tell which they are: without this they would stay active until they are
        found stalled.
        """
        context = self._context
        found = await locked_by(
            context.broker,
            context.keys,
            tokens,
            look_at=look_at,
            timeout=silence_of(context.settings),
        )
        if found:
            await give_back(context, [(job_id, found[job_id]) for job_id in reversed(found)])


async def give_back(context: WorkerContext, jobs: Sequence[tuple[bytes, bytes]]) -> None:
    """Put jobs back where they were, by id and token, in the order in which they were claimed.

    One that Redis refuses is left to the stalled check. Raises: BrokerUnavailable.
    """
    rows = [Settlement(job_id, token, HandBack()) for job_id, token in jobs]
    now_ms = await context.broker.now_ms()
    try:
        await settle(context.broker, context.keys, rows, now_ms=now_ms)
    except BrokerUnavailable:
        raise
    except QueueError as error:
        if len(jobs) > 1:
            for each in reversed(jobs):  # the one that was claimed first comes in front in the end
                await give_back(context, [each])
            return
        ((job_id, _),) = jobs
        _log.error("job %s cannot be given back: %s", job_id.decode(errors="replace"), error)


class Claims:
    """The claims of one worker; ``start`` is given the attempts of each, held already."""

    def __init__(
        self,
        context: WorkerContext,
        *,
        settler: Settler,
        start: Callable[[list[Attempt]], None],
        on_taken_over: Callable[[Attempt], None],
    ) -> None:
        """Claim from the queue of this context.

        ``on_taken_over`` ends the run of an earlier attempt whose job was claimed again.
        """
        self._context = context
        self._held = context.held
        self._settler = settler
        self._start = start
        self._on_taken_over = on_taken_over
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
        )
        self._scheduler_advancer = SchedulerAdvancer(context)
        self._time = asyncio.get_running_loop().time
        self._worker_id = str(uuid.uuid4())
        self.number = 0
        self.lost = LostClaims(context)
        self._most_bytes = MOST_BYTES
        self._ended = ""  # the token of a claim for which nobody waits any more
        # Since when the answer to which token is on its way.
        self._asked_at: dict[str, float] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether a claim sleeps in Redis until a job comes."""
        return self._waiting_claim.is_waiting

    async def open(self) -> None:
        """Connect what waits: a worker that never waits is on the dashboards by it too.

        Raises: BrokerUnavailable.
        """
        await self._waiting_claim.open()

    async def now(self, limit: int, *, at_once: int) -> Claim | None:
        """Claim up to ``limit`` jobs of those that are there, of which so many begin at once."""
        bounds = Bounds(self._most_bytes, at_once)
        return await self._ask(lambda token: self._claim(limit, token, bounds))

    async def when_marked(self, limit: int, timeout: float, *, at_once: int) -> Claim | None:
        """Claim when a marker says that there are jobs, or after ``timeout`` seconds.

        None when nothing was claimed, and ``now`` is to be called.
        """
        wait = self._waiting_claim.run
        bounds = Bounds(self._most_bytes, at_once)
        return await self._ask(
            lambda token: wait(limit=limit, token=token, timeout=timeout, bounds=bounds)
        )

    async def pause(self) -> None:
        """Wait for jobs no more: what waits claims and returns at once, until ``resume``."""
        await self._waiting_claim.hurry()

    def resume(self) -> None:
        """Wait again."""
        self._waiting_claim.calm()

    async def give_back_lost(self) -> None:
        """Give back what claims took whose reply was lost: nobody else would for long."""
        await self.lost.give_back()

    def in_transit(self) -> list[str]:
        """Return the tokens whose jobs are locked already, and long on their way to here."""
        oldest = self._time() - self._context.settings.lock_duration * _RENEW_AFTER
        is_idle = self._waiting_claim.is_waiting and self._waiting_claim.received < _LARGE
        return [] if is_idle else [t for t, since in self._asked_at.items() if since < oldest]

    async def close(self) -> None:
        """Give back what is lost, if Redis is there, and close; twice is harmless."""
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self.give_back_lost()
        except (QueueError, TimeoutError) as error:
            _log.warning(
                "the reply to a claim was lost: jobs that it took are found stalled later: %s",
                error,
            )
        finally:
            await self._waiting_claim.close()

    async def _ask(self, ask: Callable[[str], Awaitable[Claim | None]]) -> Claim | None:
        self.number += 1
        token = f"{self._worker_id}:{self.number}"
        self._held.begin_claim()
        try:
            # What it brings is started in the turn of the loop in which it comes.
            asking = asyncio.ensure_future(self._ask_and_take(ask, token))
            try:
                return await asyncio.shield(asking)
            except asyncio.CancelledError:
                # Redis may have handed out jobs already, and nobody is to start them.
                self._ended = token
                await self._end(asking, token)
                raise
        finally:
            self._held.end_claim()

    async def _ask_and_take(
        self, ask: Callable[[str], Awaitable[Claim | None]], token: str
    ) -> Claim | None:
        self._asked_at[token] = self._time()
        try:
            found = await ask(token)
        except BaseException as error:
            # Whatever it was: nobody has seen what this claim took.
            self.lost.add(token)
            self._ask_for_less(error)
            raise
        finally:
            del self._asked_at[token]
        self._ask_for_more()
        if found is None:
            return None
        if self._ended == token:
            self._hand_back(self._hold(found, token))
        else:
            await self._take(found, token)
        return found

    def _ask_for_less(self, error: BaseException) -> None:
        """Have the next claim bring less when the answer to this one was lost on its way."""
        if not isinstance(error, BrokerUnavailable) or error.moved < _LARGE:
            return
        if self._most_bytes == MOST_BYTES:
            _log.warning(
                "the answer to a claim was lost after %.1f MB: fewer jobs are claimed at a time, "
                "one in the end, until answers arrive again (%s)",
                error.moved / 1e6,
                error,
            )
        self._most_bytes = max(1, self._most_bytes // _SMALLER)

    def _ask_for_more(self) -> None:
        if self._most_bytes < MOST_BYTES:
            self._most_bytes = min(MOST_BYTES, self._most_bytes * 2)

    async def _end(self, asking: asyncio.Future[Claim | None], token: str) -> None:
        """Have the claim that is under way end, which hands back what it brings.

        Without waiting for jobs to come. Whatever becomes of the claim, its loop ends.
        """
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._waiting_claim.hurry()
                await asking
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - `close` sees to what it took
            _log.debug("claim %s was ended: %r", token, error)

    async def _take(self, found: Claim, token: str) -> None:
        """Hold all that a claim brought before anything else is done with any of it.

        Whatever goes wrong then, what was not started goes back.
        """
        attempts = self._hold(found, token)
        scheduled = [attempt for attempt in attempts if attempt.job.scheduler_id]
        try:
            if not scheduled:
                self._start(attempts)
                return
            self._start([attempt for attempt in attempts if not attempt.job.scheduler_id])
            await self._scheduler_advancer.advance([attempt.job for attempt in scheduled])
            self._start(scheduled)
        except BaseException:
            # Unstarted: whoever claims them next keeps their schedulers going.
            self._hand_back(attempts)
            raise

    def _hold(self, found: Claim, token: str) -> list[Attempt]:
        attempts, taken_over = self._held.hold(found.jobs, token.encode())
        for attempt in taken_over:
            self._on_taken_over(attempt)
        return attempts

    def _hand_back(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            if attempt.state is AttemptState.CLAIMED:
                self._settler.hand_back(attempt)

    async def _claim(self, limit: int, token: str, bounds: Bounds) -> Claim:
        context = self._context
        return await claim_as(
            self._claimant,
            context.broker,
            context.keys,
            limit=limit,
            token=token,
            now_ms=await context.broker.now_ms(),
            bounds=bounds,
        )
