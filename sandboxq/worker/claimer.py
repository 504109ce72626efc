"""Asks Redis for as many jobs as the pool can start soon, and waits when there are none."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import uuid
from typing import TYPE_CHECKING

from sandboxq.broker.claim import claim
from sandboxq.broker.codec import options_from_wire
from sandboxq.errors import BrokerUnavailable, QueueError, SignatureRefused
from sandboxq.job import JobOptions
from sandboxq.outcome import Failed
from sandboxq.signing import Place, is_signed
from sandboxq.telemetry import JobClaimed, JobsClaimed, LocksLost, QueueDrained
from sandboxq.worker.attempt import Attempt, AttemptState, call_from_attempt
from sandboxq.worker.attempt_span import begin_span
from sandboxq.worker.scheduler import SchedulerKeeper
from sandboxq.worker.unanswered import give_back_unanswered

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.broker.claim import Claim, ClaimedJob
    from sandboxq.broker.reader import BlockingReader
    from sandboxq.pool.pool import Pool
    from sandboxq.worker.context import WorkerContext
    from sandboxq.worker.porter import Porter
    from sandboxq.worker.settler import Settler

# One script call claims at most so many jobs (design.md 3.2).
BATCH = 100
# A burst worker looks again this often whether the jobs that others still run have ended.
BURST_LOOK = 0.5
# A known delayed job is waited for at most so long at a time (bullmq-wire.md 1.4).
LONGEST_DELAY_WAIT = 10.0
# A job that found no child for this long goes back to the queue, where other workers see it.
PATIENCE = 1.0

_DEFAULT_OPTIONS = JobOptions()


class Mode(enum.Enum):
    """What the claimer is here for."""

    FOREVER = "forever"
    BURST = "burst"  # until nothing is waiting, prioritized or active


class Claimer:
    """Feeds the pool from one queue."""

    def __init__(
        self,
        context: WorkerContext,
        *,
        pool: Pool,
        porter: Porter,
        settler: Settler,
        room: asyncio.Event,
        on_lost: Callable[[Attempt], None],
        secret: bytes | None = None,
    ) -> None:
        """Claim for ``pool``, which sets ``room`` when it may take another call.

        With a ``secret`` only jobs signed with it are run.
        ``on_lost`` ends a run whose job was claimed again.
        """
        self._broker = context.broker
        self._keys = context.keys
        self._settings = context.settings
        self._held = context.held
        self._clock = context.clock
        self._telemetry = context.telemetry
        self._pool = pool
        self._porter = porter
        self._settler = settler
        self._room = room
        self._on_lost = on_lost
        self._secret = secret
        self._place = Place(context.keys.prefix, context.keys.queue)
        limiter = context.settings.limiter
        self._limiter = None if limiter is None else (limiter.max, limiter.duration_ms)
        self._scheduler_keeper = SchedulerKeeper(context)
        self._worker_id = str(uuid.uuid4())
        self._context = context
        self._claims = 0
        self._unanswered = ""  # the token of a claim whose reply was lost
        self._reader: BlockingReader | None = None
        self._is_waiting = False
        self._is_drained = True  # nothing has come yet

    async def run(self, mode: Mode) -> None:
        """Claim until cancelled, or in a burst until nothing is left to do."""
        while True:
            try:
                if await self._claim_some(mode):
                    return
            except BrokerUnavailable:
                await self._broker.wait_until_back(self._telemetry)

    async def close(self) -> None:
        """Close the blocking connection; pass on a wake-up that may have been swallowed."""
        if self._reader is None:
            return
        await self._reader.close()
        self._reader = None
        if self._is_waiting:
            # A read that was cancelled may have popped the marker already; a needless marker
            # harms nobody, a missing one leaves other workers asleep for their drain delay. That
            # is no reason to wait for a Redis that is away.
            with contextlib.suppress(QueueError):
                await self._broker.command("ZADD", self._keys["marker"], 0, "0")

    async def _claim_some(self, mode: Mode) -> bool:
        """Do one step; return True when a burst has nothing left to do."""
        if self._unanswered:
            await give_back_unanswered(self._context, self._unanswered)
            self._unanswered = ""
        limit = self._wanted()
        if not limit:
            await self._wait_for_room()
            return False
        found = await self._claim(limit)
        if found.jobs:
            self._is_drained = False
            self._telemetry.emit(JobsClaimed(len(found.jobs)))
            return False
        if not self._is_drained:
            self._is_drained = True
            self._telemetry.emit(QueueDrained())
        if mode is Mode.BURST and await self._is_all_done():
            return True
        await self._wait_for_jobs(found, mode)
        return False

    def _wanted(self) -> int:
        """Return how many jobs to ask for: none while the children have enough work ahead."""
        room = self._pool.room() - self._porter.pending
        if room <= 0:
            return 0
        held = self._pool.held + self._porter.pending
        has_idle_slot = held < self._pool.size * self._settings.concurrency
        # Half empty is soon enough when work is ahead; asking for each single job is not a batch.
        return min(room, BATCH) if has_idle_slot or room >= held else 0

    async def _wait_for_room(self) -> None:
        self._room.clear()
        try:
            await asyncio.wait_for(self._room.wait(), PATIENCE)
        except TimeoutError:
            self._hand_back_stuck()

    def _hand_back_stuck(self) -> None:
        for call in self._pool.take_back(waiting_longer_than=PATIENCE):
            self._settler.hand_back(call.context)

    async def _claim(self, limit: int) -> Claim:
        self._claims += 1
        # One token a claim: a run that outlives its lock cannot write under that of a later run.
        token = f"{self._worker_id}:{self._claims}"
        asking = asyncio.ensure_future(self._claim_and_advance(limit, token))
        try:
            found = await asyncio.shield(asking)
        except asyncio.CancelledError:
            # Redis may have handed out jobs already: whoever stops this loop hands them back.
            # Whatever becomes of the claim, the loop ends.
            with contextlib.suppress(QueueError):
                self._start_all((await asking).jobs, token)
            raise
        except BrokerUnavailable:
            self._unanswered = token
            raise
        self._start_all(found.jobs, token)
        return found

    async def _claim_and_advance(self, limit: int, token: str) -> Claim:
        found = await claim(
            self._broker,
            self._keys,
            limit=limit,
            token=token,
            lock_ms=self._settings.lock_ms,
            now_ms=self._clock.now_ms(),
            worker_name=self._settings.name,
            limiter=self._limiter,
        )
        scheduled = [job for job in found.jobs if job.scheduler_id]
        if not scheduled:
            return found
        try:
            await self._scheduler_keeper.advance(scheduled)
        except BrokerUnavailable:
            # Back they go, unstarted: whoever claims them next keeps their schedulers going.
            for job in scheduled:
                attempt = Attempt(job, token.encode(), _DEFAULT_OPTIONS)
                self._held[job.id] = attempt
                self._settler.hand_back(attempt)
            return found._replace(jobs=[job for job in found.jobs if not job.scheduler_id])
        return found

    def _start_all(self, jobs: list[ClaimedJob], token: str) -> None:
        token_bytes = token.encode()
        if self._telemetry.wants(JobClaimed):
            for job in jobs:
                self._telemetry.emit(
                    JobClaimed(job.id.decode(errors="replace"), job.name.decode(errors="replace"))
                )
        for job in jobs:
            self._start(job, token_bytes)

    def _start(self, job: ClaimedJob, token: bytes) -> None:
        former = self._held.get(job.id)
        if former is not None and former.state is not AttemptState.ENDED:
            # Its lock ran out and the job was put back, all before the next renewal could tell.
            self._telemetry.emit(LocksLost([job.id.decode(errors="replace")]))
            self._on_lost(former)
        try:
            attempt = Attempt(job, token, options_from_wire(job.opts))
        except QueueError as error:
            attempt = Attempt(job, token, _DEFAULT_OPTIONS)
            self._held[job.id] = attempt
            self._settler.end(attempt, Failed(str(error), is_unrecoverable=True))
            return
        self._held[job.id] = attempt
        refusal = refusal_of(job, self._settings.max_started_attempts)
        if refusal:
            self._settler.end(attempt, Failed(refusal, is_unrecoverable=True))
            return
        if self._secret and not is_signed(job.data, self._secret, self._place, job.id):
            reason = "refused: nobody with this worker's secret has signed this job for this queue"
            cause = SignatureRefused.__name__
            self._settler.end(attempt, Failed(reason, cause=cause, is_unrecoverable=True))
            return
        if self._settings.tracing is not None:
            begin_span(attempt, self._settings.tracing, self._keys.queue, self._settings.name)
        settings = self._settings
        call = call_from_attempt(attempt, timeout=settings.timeout, grace=settings.timeout_grace)
        if job.binary:
            self._porter.fetch(attempt, call)
        else:
            self._pool.submit(call)

    async def _is_all_done(self) -> bool:
        if self._held:
            return False
        counts = await self._broker.pipeline(
            [
                ("LLEN", self._keys["wait"]),
                ("LLEN", self._keys["paused"]),
                ("LLEN", self._keys["active"]),
                ("ZCARD", self._keys["prioritized"]),
            ]
        )
        return not any(counts)

    async def _wait_for_jobs(self, found: Claim, mode: Mode) -> None:
        timeout = self._settings.drain_delay
        if found.next_delayed_ms:
            due = (found.next_delayed_ms - self._clock.now_ms()) / 1000
            timeout = min(max(due, 0.001), LONGEST_DELAY_WAIT)
        if mode is Mode.BURST:
            timeout = min(timeout, BURST_LOOK)
        if self._pool.held:
            timeout = min(timeout, PATIENCE)
        if found.rate_limit_ms:
            await asyncio.sleep(min(found.rate_limit_ms / 1000, timeout))
        else:
            await self._pop_marker(timeout)
        self._hand_back_stuck()

    async def _pop_marker(self, timeout: float) -> None:
        """Sleep until a job may be claimable, or the timeout has passed."""
        if self._reader is None:
            self._reader = await self._broker.blocking(self._client_name(), self._keys["marker"])
        self._is_waiting = True
        score = await self._reader.pop_marker(self._keys["marker"], timeout)
        self._is_waiting = False
        if score:
            # The marker of a delayed job: its score says when it is due.
            wait = (score - self._clock.now_ms()) / 1000
            if wait > 0:
                await self._pop_marker(min(wait, timeout))

    def _client_name(self) -> str:
        name = self._keys.client_name
        return f"{name}:w:{self._settings.name}" if self._settings.name else name


def refusal_of(job: ClaimedJob, max_started_attempts: int | None) -> str:
    """Say why a job that was claimed must fail without being run; nothing when it is run."""
    if job.deferred_failure:
        return job.deferred_failure.decode(errors="replace")
    if max_started_attempts is not None and job.attempts_started > max_started_attempts:
        return "job started more than allowable limit"
    return ""
