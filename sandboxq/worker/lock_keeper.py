"""Renews every lock the worker holds, on one timer, whatever the children do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

from sandboxq.broker.commands.locks import extend
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.observe.telemetry import HeartbeatSent, LocksLost
from sandboxq.worker.attempt import AttemptState
from sandboxq.worker.claims import claimed_under
from sandboxq.worker.seldom import Seldom

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.context import WorkerContext

T = TypeVar("T")

# The part of a lock's time for which the answer to a renewal is waited for, but not less seconds.
_SILENCE = 0.25
_LEAST_SILENCE = 1.0
# What is in the pool for so many beats has begun: what only waits there goes back sooner.
_BEGUN_BEATS = 5


class LockKeeper:
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
        self._silence = max(_LEAST_SILENCE, self._settings.lock_duration * _SILENCE)
        self._last_beat = 0.0
        self._seldom = Seldom()
        # At how many beats each has run: ids and tokens, for what has ended must not be kept.
        self._beats: dict[tuple[bytes, bytes], int] = {}

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
                await self._wait_until_back()
                continue
            next_beat = max(next_beat + interval, clock())

    async def _wait_until_back(self) -> None:
        """Wait for Redis, but not for long: others may miss it for longer than it is away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._silence):
                await self._broker.wait_until_back(self._telemetry)

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
        """Have those that run for long count as begun, should this worker die."""
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
        found = await self._aside(claimed_under(self._context, tokens))
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
            self._seldom.warn("what goes along with the renewal of locks was refused", error)
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
