"""Gives back what claims took whose answer nobody has seen, at once and later.

What is locked by the token of such a claim goes back. It is looked for again for some seconds: the
command may still be on its way, or wait in Redis behind a connection that is dead on our side only.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sandboxq.broker.settle import Settlement, settle
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.outcome import HandBack

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sandboxq.worker.context import WorkerContext

_log = logging.getLogger("sandboxq.worker")

# A claim puts its jobs in front of the active list; what others have claimed since is before them.
_LOOK_AT = 2000
# A claim waits in Redis for a job that long at most, and not much longer on its way there. Only
# where the former connection cannot be ended (broker/former.py) is there something to find later.
_WATCH_SECONDS = 20.0
_LOOK_EVERY = 0.5


class LostClaims:
    """A service, and the list of the tokens."""

    def __init__(self, context: WorkerContext) -> None:
        """Give back to the queue of this context."""
        self._context = context
        self._lost: list[str] = []
        self._watched: dict[str, float] = {}
        self._work = asyncio.Event()

    def add(self, token: str) -> None:
        """Take note of a claim whose answer is lost: Redis may have handed out jobs, or will."""
        self._lost.append(token)

    async def give_back(self) -> None:
        """Give back what the claims took by now. Raises: BrokerUnavailable, QueueError."""
        if not self._lost:
            return
        tokens = self._lost[:]
        await _give_back(self._context, tokens)
        del self._lost[: len(tokens)]
        until = asyncio.get_running_loop().time() + _WATCH_SECONDS
        self._watched.update(dict.fromkeys(tokens, until))
        self._work.set()

    async def run(self) -> None:
        """Look again for a while after each loss, until cancelled."""
        while True:
            # First what lies there: whoever ran before this may have left it.
            self._work.clear()
            while self._watched:
                await asyncio.sleep(_LOOK_EVERY)
                try:
                    await self._look_again()
                except BrokerUnavailable:
                    await self._context.broker.wait_until_back(self._context.telemetry)
            await self._work.wait()

    async def _look_again(self) -> None:
        now = asyncio.get_running_loop().time()
        await _give_back(self._context, self._watched)
        self._watched = {token: until for token, until in self._watched.items() if until > now}


async def claimed_under(context: WorkerContext, tokens: Collection[str]) -> dict[bytes, bytes]:
    """Return the active jobs that are locked by one of these tokens, last claimed first.

    For each id its token. Nobody else can tell: they are known to none but Redis.
    """
    broker, keys = context.broker, context.keys
    ids = await broker.command("LRANGE", keys["active"], 0, _LOOK_AT - 1)
    if not ids:
        return {}
    lock_keys = [keys.base.encode() + job_id + b":lock" for job_id in ids]
    locks = await broker.command("MGET", *lock_keys)
    wanted = {token.encode() for token in tokens}
    return {job_id: lock for job_id, lock in zip(ids, locks, strict=True) if lock in wanted}


async def _give_back(context: WorkerContext, tokens: Collection[str]) -> None:
    """Put the jobs that are locked by these tokens back where they were.

    Without this they would stay active until they are found stalled.
    """
    found = await claimed_under(context, tokens)
    if not found:
        return
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
