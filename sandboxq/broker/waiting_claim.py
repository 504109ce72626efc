"""Waits for a marker and claims in the same breath: one round trip from job to worker.

    worker ──TIME, BZPOPMIN marker, EVALSHA claim──► Redis holds the rest back while the pop waits
    worker ◄──────────────── jobs ─────────────────  the claim runs as the marker comes, or too late

An idle worker that was woken by the marker and then asked would start each job two wake-ups later.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from redis.exceptions import NoScriptError, ResponseError

from sandboxq.broker.claim import arguments_of, claim_from_reply
from sandboxq.broker.link import error_from_reply
from sandboxq.broker.script import load
from sandboxq.broker.server_time import ms_from_time
from sandboxq.errors import QueueError

if TYPE_CHECKING:
    from sandboxq.broker.claim import Bounds, Claim, Claimant
    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.broker.reader import BlockingReader

# What the claim takes for the time: the server's, when it runs, and nothing ahead of it.
_BY_SERVER = 0
# Who is woken before Redis has read what to wait for sleeps on: it is woken again, later and later.
_FIRST_AGAIN = 0.005
_LAST_AGAIN = 0.2


class WaitingClaim:
    """A connection of its own, for one claim at a time."""

    def __init__(
        self, broker: Broker, keys: QueueKeys, *, claimant: Claimant, client_name: str
    ) -> None:
        """Claim from this queue; dashboards find the worker by its ``client_name``."""
        self._broker = broker
        self._keys = keys
        self._claimant = claimant
        self._client_name = client_name
        self._reader: BlockingReader | None = None
        self._is_hurried = False
        self.is_waiting = False

    async def open(self) -> None:
        """Connect under the worker's name, again where that was lost. Raises: BrokerUnavailable."""
        reader = await self._opened()
        await self._compare_clocks(reader)

    @property
    def received(self) -> int:
        """How many bytes of the answer that is due have come."""
        return 0 if self._reader is None else self._reader.received

    async def run(self, *, limit: int, token: str, timeout: float, bounds: Bounds) -> Claim | None:
        """Claim as a marker comes, or after ``timeout`` seconds; None when nothing was claimed.

        Raises: BrokerUnavailable; whether jobs were claimed is unknown then.
        """
        reader, marker = await self._opened(), self._keys["marker"]
        arguments = ("", *arguments_of(self._claimant, limit, token, bounds), _BY_SERVER)
        call = ("EVALSHA", load("claim").sha, 1, self._keys.base, *arguments)
        timeout = 0.0 if self._is_hurried else timeout
        self.is_waiting = True
        asked = self._broker.time.reading()
        try:
            time, popped, reply = await reader.pop_marker_and_run(marker, timeout, call)
        except QueueError as error:
            if isinstance(error.__cause__, NoScriptError):
                return None  # the server was restarted: an ordinary claim loads the script
            raise
        finally:
            self.is_waiting = False
        self._broker.time.note_least(asked, ms_from_time(time))
        claim = claim_from_reply(reply)
        if isinstance(popped, ResponseError) and not claim.jobs:
            # Nothing waited: who goes on as if it had would ask without end.
            raise error_from_reply(popped) from popped
        return claim

    async def hurry(self) -> None:
        """Have a ``run`` that waits claim and return at once, and none wait until ``calm``."""
        self._is_hurried = True
        again = _FIRST_AGAIN
        while self.is_waiting and self._is_hurried and self._reader is not None:
            with contextlib.suppress(QueueError):
                await self._reader.unblock()
            await asyncio.sleep(again)
            again = min(2 * again, _LAST_AGAIN)

    def calm(self) -> None:
        """Wait for jobs again."""
        self._is_hurried = False

    async def close(self) -> None:
        """Close the connection; twice is harmless."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    async def _opened(self) -> BlockingReader:
        if self._reader is None:
            self._reader = await self._broker.blocking(self._client_name, self._keys["marker"])
        return self._reader

    async def _compare_clocks(self, reader: BlockingReader) -> None:
        asked = self._broker.time.reading()
        server_time = await reader.time()
        self._broker.time.note(asked, ms_from_time(server_time))
