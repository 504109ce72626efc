"""Renews the worker's locks, and puts jobs back whose locks nobody renews (protocol.md 3.18).

One timer renews all locks, whatever the children do. The pass over stalled jobs also
removes arrays and bytes whose job is gone (broker/commands/binary.py).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from sandboxq.broker.commands.attempts import extend, put_off_stalled, recover_stalled
from sandboxq.broker.commands.binary import FIRST_PAGE, sweep
from sandboxq.broker.commands.claim import locked_by
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.observe.telemetry import HeartbeatSent, JobsStalled, LocksLost
from sandboxq.worker.attempt import AttemptState
from sandboxq.worker.claims import RETRY_SECONDS, silence_of
from sandboxq.worker.service import Seldom

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.context import WorkerContext

T = TypeVar("T")

# What is in the pool for so many beats has begun: what only waits there goes back sooner.
_BEGUN_BEATS = 5

# A link that breaks all the time must not keep this worker from checking for ever.
_MOST_TIMES = 10


class LockRenewer:
    """Sends one renewal for all held jobs per heartbeat.

    The time of a renewal counts only once Redis has answered; a renewal that failed is repeated as
    soon as Redis is back. A lock that ran out meanwhile, while nobody took the job, is taken again.
    """

    def __init__(
        self,
        context: WorkerContext,
        *,
        on_lost: Callable[[Attempt], None],
        in_transit: Callable[[], list[str]],
    ) -> None:
        """Renew the locks of what is held; call ``on_lost`` for each one that is refused.

        ``in_transit`` returns the tokens of claims whose jobs are long on their way to here.
        """
        self._context = context
        self._in_transit = in_transit
        self._broker = context.broker
        self._keys = context.keys
        self._settings = context.settings
        self._held = context.held
        self._telemetry = context.telemetry
        self._on_lost = on_lost
        # Long before the locks run out another connection is tried.
        self._silence = silence_of(self._settings)
        self._last_beat = 0.0
        self._seldom = Seldom()
        # At how many beats each has run: ids and tokens, for what has ended must not be kept.
        self._beats: dict[tuple[bytes, bytes], int] = {}

    @property
    def seconds_since_beat(self) -> float:
        """How long ago all locks had been renewed, or there was none."""
        return asyncio.get_running_loop().time() - self._last_beat

    async def run(self) -> None:
        """Beat until cancelled."""
        clock = asyncio.get_running_loop().time
        interval = self._settings.heartbeat_interval
        # At once: who ran before this may not have come to it.
        next_beat = self._last_beat = clock()
        while True:
            await asyncio.sleep(max(0.0, next_beat - clock()))
            try:
                await self._beat(clock())
            except BrokerUnavailable:
                # A beat is one small command, and has to come through while the locks last.
                await self._broker.wait_until_back(self._telemetry, at_most=RETRY_SECONDS)
                continue
            next_beat = max(next_beat + interval, clock())

    async def _beat(self, now: float) -> None:
        held: list[tuple[bytes, bytes, int | bytes]] = [
            (attempt.job.id, attempt.token, attempt.job.attempts_started)
            for attempt in self._held.values()
        ]
        held += await self._found_in_transit()
        if not held:
            self._last_beat = now
            return
        lost = await extend(
            self._broker,
            self._keys,
            held,
            lock_ms=self._settings.lock_ms,
            retake=True,
            timeout=self._silence,
        )
        done = asyncio.get_running_loop().time()
        self._telemetry.emit(HeartbeatSent(done - self._last_beat, len(held)))
        self._last_beat = done
        self._drop(lost, {job_id: token for job_id, token, _ in held})
        await self._tell_begun()

    async def _tell_begun(self) -> None:
        """Mark jobs that run for long as begun, in case this worker dies."""
        running = (a for a in self._held.values() if a.state is AttemptState.RUNNING)
        names = [(attempt.job.id, attempt.token) for attempt in running]
        self._beats = {name: self._beats.get(name, 0) + 1 for name in names}
        begun = [job_id for (job_id, _), beats in self._beats.items() if beats == _BEGUN_BEATS]
        if begun:
            await self._aside(self._broker.command("SREM", self._keys.ahead, *begun))

    async def _found_in_transit(self) -> list[tuple[bytes, bytes, int | bytes]]:
        tokens = self._in_transit()
        if not tokens:
            return []
        found = await self._aside(locked_by(self._broker, self._keys, tokens))
        return [(job_id, token, b"") for job_id, token in (found or {}).items()]

    async def _aside(self, asking: Awaitable[T]) -> T | None:
        """Return what is answered, None where Redis is silent or refuses: locks go before that.

        Raises: BrokerUnavailable.
        """
        try:
            async with asyncio.timeout(self._silence):
                return await asking
        except TimeoutError:
            return None
        except BrokerUnavailable:
            raise
        except QueueError as error:
            self._seldom.warn("Redis refused a command sent with the renewal of locks", error)
            return None

    def _drop(self, lost: list[bytes], tokens: dict[bytes, bytes]) -> None:
        # An attempt that was settled, or whose outcome is on its way, has not lost its lock but
        # given it back while the renewal was under way; a job claimed anew has another token.
        gone = [
            attempt
            for job_id in lost
            if (attempt := self._held.get(job_id))
            and attempt.token == tokens.get(job_id)
            and attempt.state is not AttemptState.ENDED
        ]
        if not gone:
            return
        self._telemetry.emit(
            LocksLost([attempt.job.id.decode(errors="replace") for attempt in gone])
        )
        for attempt in gone:
            self._on_lost(attempt)


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
