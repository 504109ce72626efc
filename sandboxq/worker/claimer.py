"""Asks Redis for as many jobs as the pool can start soon, and waits when there are none."""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import TYPE_CHECKING

from sandboxq.broker.codec import options_from_wire
from sandboxq.broker.commands.claim import MAX_CLAIM
from sandboxq.errors import BrokerUnavailable, OptionsUnreadable, SignatureRefused
from sandboxq.model.outcome import Failed
from sandboxq.observe.telemetry import (
    JobClaimed,
    JobsClaimed,
    LocksLost,
    QueueDrained,
)
from sandboxq.payload.signing import SignedPlace, is_signed
from sandboxq.worker.attempt import CLAIMED, RUNNING, begin_span, call_from_attempt, not_taken
from sandboxq.worker.claims import Claims

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.broker.commands.claim import Claim, ClaimedJob
    from sandboxq.pool.calls import Call
    from sandboxq.pool.pool import Pool
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.blob_transfer import BlobTransfer
    from sandboxq.worker.context import WorkerContext
    from sandboxq.worker.settler import Settler

# One script call claims at most so many jobs.
BATCH = MAX_CLAIM
# A burst worker looks again this often whether the jobs that others still run have ended.
BURST_LOOK = 0.5
# A known delayed job is waited for at most so long at a time (protocol.md 1.4).
LONGEST_DELAY_WAIT = 10.0
# A job that found no child for this long goes back to the queue, where other workers see it.
PATIENCE = 1.0

_log = logging.getLogger("sandboxq.worker")


class Mode(enum.Enum):
    """How long the claimer goes on."""

    FOREVER = "forever"
    BURST = "burst"  # until nothing is waiting, prioritized or active


class Claimer:
    """Feeds the pool from one queue."""

    def __init__(
        self,
        context: WorkerContext,
        *,
        pool: Pool,
        blobs: BlobTransfer,
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
        self._telemetry = context.telemetry
        self._pool = pool
        # Replaced while some of the jobs are to be sampled.
        self.submit_all: Callable[[list[Call]], None] = pool.submit_all
        self._blobs = blobs
        self._settler = settler
        self._room = room
        self._on_lost = on_lost
        self._secret = secret
        settings = context.settings  # those that are asked for each job
        self._max_started = settings.max_started_attempts
        self._timeout, self._grace = settings.timeout, settings.timeout_grace
        self._tracing = settings.tracing
        self._place = SignedPlace(context.keys.prefix, context.keys.queue)
        self._claims = Claims(
            context, settler=settler, start=self._start_all, on_taken_over=self._end_former
        )
        # The last claim, when it brought less than there was room for: then a marker tells of more.
        self._short: Claim | None = None
        self._is_drained = True  # nothing has come yet
        self._resumed = asyncio.Event()
        self._resumed.set()
        # Asked when a burst has nothing left to do: a worker of a group waits for the others.
        self.may_end: Callable[[], Awaitable[bool]] = _at_once

    async def run(self, mode: Mode) -> None:
        """Claim until cancelled, or in a burst until nothing is left to do."""
        while True:
            try:
                await self._claims.open()
                while not await self._claim_some(mode):
                    pass
            except BrokerUnavailable:
                await self._broker.wait_until_back(self._telemetry)
            else:
                return

    async def close(self) -> None:
        """Close the connection that waits."""
        await self._claims.close()

    @property
    def is_paused(self) -> bool:
        """Whether nothing is claimed until ``resume``."""
        return not self._resumed.is_set()

    @property
    def resumed(self) -> asyncio.Event:
        """Set unless it is paused."""
        return self._resumed

    async def pause(self) -> None:
        """Claim no more; what a claim brings that is under way is run."""
        self._resumed.clear()
        await self._claims.pause()

    def resume(self) -> None:
        """Claim again; twice is harmless."""
        self._resumed.set()
        self._claims.resume()
        self._short = None

    @property
    def is_limited(self) -> bool:
        """Whether the last claim brought nothing because of the queue's rate limit."""
        return self._short is not None and bool(self._short.rate_limit_ms)

    @property
    def claims(self) -> Claims:
        """The claims that were made."""
        return self._claims

    async def _claim_some(self, mode: Mode) -> bool:
        """Do one step; return True when a burst has nothing left that it can do."""
        await self._claims.give_back_lost()
        await self._resumed.wait()
        if mode is Mode.BURST and self._pool.circuit.verdict and self._held.is_empty:
            return True
        limit, idle_slots = self._wanted()
        if not limit:
            await self._wait_for_room()
            return False
        if self._short is None:
            found = await self._claims.now(limit, at_once=idle_slots)
        else:
            found = await self._wait_for_jobs(self._short, limit, idle_slots, mode)
        if found is None:
            self._short = None
            return False
        self._short = found if len(found.jobs) < limit else None
        if found.jobs:
            self._is_drained = False
            self._telemetry.emit(JobsClaimed(len(found.jobs)))
            return False
        if not self._is_drained:
            self._is_drained = True
            self._telemetry.emit(QueueDrained())
        return mode is Mode.BURST and await self.is_all_done() and await self.may_end()

    def _wanted(self) -> tuple[int, int]:
        """Return how many jobs to ask for, and how many of them could begin at once.

        None while the children have enough work ahead.
        """
        pending = self._blobs.pending
        room = self._pool.room() - pending
        if room <= 0:
            return 0, 0
        held = self._pool.held + pending
        # Asking for each single job is no batch: when work is ahead, half empty is soon enough, or
        # room for a whole one.
        is_enough = room >= min(held, BATCH)
        idle_slots = max(0, self._pool.size * self._settings.concurrency - held)
        return (min(room, BATCH) if is_enough or idle_slots else 0), idle_slots

    async def _wait_for_room(self) -> None:
        """Wait, not for long, until jobs may be claimed or a call is to be given up."""
        was_told = False
        try:
            # Not wait_for, which in Python 3.11 may swallow the cancellation that ends this loop.
            async with asyncio.timeout(PATIENCE):
                while not (was_told and (self._wanted()[0] or self._pool.circuit.verdict)):
                    self._room.clear()
                    await self._room.wait()
                    was_told = True
        except TimeoutError:
            if not was_told:
                self._hand_back_stuck()

    def _hand_back_stuck(self) -> None:
        for call in self._pool.take_back(waiting_longer_than=PATIENCE):
            self._settler.hand_back(call.context)

    def _end_former(self, attempt: Attempt) -> None:
        """End a run whose lock ran out, and whose job was claimed again before that was noticed."""
        self._telemetry.emit(LocksLost([attempt.job.id.decode(errors="replace")]))
        self._on_lost(attempt)

    def _start_all(self, attempts: list[Attempt]) -> None:
        if self._telemetry.wants(JobClaimed):
            self._tell_claimed(attempts)
        calls = []
        for attempt in attempts:
            try:
                call = self._call_of(attempt)
            except Exception as error:  # noqa: BLE001 - the boundary of one row: the others start
                _log.exception("job %s cannot be started", attempt.job.id.decode(errors="replace"))
                reason = f"the job cannot be started: {type(error).__name__}: {error}"
                self._settler.end(attempt, Failed(reason, is_unrecoverable=True))
            else:
                if call is not None:
                    calls.append(call)
        try:
            self.submit_all(calls)
        except BaseException:
            for attempt in not_taken(calls):
                self._settler.hand_back(attempt)
            raise

    def _tell_claimed(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            job = attempt.job
            self._telemetry.emit(
                JobClaimed(job.id.decode(errors="replace"), job.name.decode(errors="replace"))
            )

    def _call_of(self, attempt: Attempt) -> Call | None:
        """Return the call of a held job, unless it is not run or its arrays are still in Redis."""
        job = attempt.job
        if attempt.state is not CLAIMED:
            return None  # its job stood twice in the queue, or it was given back meanwhile
        try:
            attempt.options = options_from_wire(job.opts)
        except OptionsUnreadable as error:
            self._settler.end(attempt, Failed(str(error), is_unrecoverable=True))
            return None
        # A plain job has never been run: nothing speaks against it.
        if not job.is_plain and (refusal := refusal_of(job, self._max_started)):
            self._settler.end(attempt, Failed(refusal, is_unrecoverable=True))
            return None
        if self._secret and not is_signed(job.data, self._secret, self._place, job.id):
            reason = "refused: nobody with this worker's secret has signed this job for this queue"
            cause = SignatureRefused.__name__
            self._settler.end(attempt, Failed(reason, cause=cause, is_unrecoverable=True))
            return None
        if self._tracing is not None:
            begin_span(attempt, self._tracing, self._keys.queue, self._settings.name)
        call = call_from_attempt(attempt, timeout=self._timeout, grace=self._grace)
        if job.binary:
            self._blobs.fetch(attempt, call)
            return None
        attempt.state = RUNNING
        return call

    async def is_all_done(self) -> bool:
        """Tell whether nothing is waiting, prioritized or active. Raises: BrokerUnavailable."""
        if not self._held.is_empty:
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

    async def _wait_for_jobs(
        self, last: Claim, limit: int, idle_slots: int, mode: Mode
    ) -> Claim | None:
        """Sleep until there may be jobs, and claim them; None when they are still to be claimed."""
        timeout = self._longest_wait(last)
        if mode is Mode.BURST:
            timeout = min(timeout, BURST_LOOK)
        if self._pool.held:
            timeout = min(timeout, PATIENCE)
        found = None
        if last.rate_limit_ms:
            await asyncio.sleep(min(last.rate_limit_ms / 1000, timeout))
        else:
            found = await self._claims.when_marked(limit, timeout, at_once=idle_slots)
        self._hand_back_stuck()
        return found

    def _longest_wait(self, last: Claim) -> float:
        """Return for how many seconds to wait when no marker comes."""
        drain_delay = self._settings.drain_delay
        if not last.next_delayed_ms:
            return drain_delay
        due = (last.next_delayed_ms - self._broker.time.now_ms()) / 1000
        # Node's workers may end what is active without a marker, and others may claim then.
        longest = drain_delay if last.is_blocked else LONGEST_DELAY_WAIT
        return min(max(due, 0.001), longest)


async def _at_once() -> bool:
    return True


def refusal_of(job: ClaimedJob, max_started_attempts: int | None) -> str:
    """Return why a job that was claimed must fail without being run; empty when it is run."""
    if job.deferred_failure:
        return job.deferred_failure.decode(errors="replace")
    if job.unreadable:
        return job.unreadable
    if max_started_attempts is not None and job.attempts_started > max_started_attempts:
        return "job started more than allowable limit"
    return ""
