"""Hears what running workers do, for `sandboxq top` and the page.

    Watch, every few seconds ──"facts" for the next seconds──► every worker
    Watch ◄──────────── a message of each, every second ─────── a channel of its own

Workers look and send only while somebody has asked; a Watch that is closed is silent a few seconds
later, and at once where Redis says that nobody listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Any

from sandboxq.broker.commands.workers import OF_WORKERS, ask_for_facts, facts_from_payload
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import BrokerUnavailable, QueueError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sandboxq.broker.connect.broker import Broker

# What is asked for, and how often it is asked for again, in seconds.
WANTED = 12.0
RENEW = 4.0
# Seconds until a watch that Redis refused is tried again.
_REFUSED = 5.0


class Watch:
    """One subscription at the workers of some queues."""

    def __init__(
        self,
        broker: Broker,
        take: Callable[[dict[str, Any]], object],
        *,
        queues: Callable[[], Awaitable[Sequence[QueueKeys]]],
        prefix: str,
        of: str = OF_WORKERS,
        target: str = "",
    ) -> None:
        """Pass each message of the workers of ``queues`` to ``take``.

        ``of`` and ``target``: see FactsRequest.
        """
        self._broker = broker
        self._take = take
        self._queues = queues
        self._what = {"of": of, "target": target}
        # A cluster wants a hash tag in every key.
        name = "watch" if "{" in prefix else "{watch}"
        self._channel = QueueKeys(name, prefix).reply_key(str(uuid.uuid4()))
        self.note = ""  # why nothing is heard
        self.asked = asyncio.Event()  # set when workers were asked, and had time to answer

    async def run(self) -> None:
        """Ask and hear until cancelled; what Redis refuses is in ``note``, and tried again."""
        async with asyncio.TaskGroup() as tasks:
            for action in (self._ask, self._read):
                tasks.create_task(self._again(action))

    async def _again(self, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await action()
            except BrokerUnavailable as error:
                self.note = f"Redis is away: {error}"
                if self._broker.is_closed:
                    return
                with contextlib.suppress(BrokerUnavailable):
                    await self._broker.wait_until_back()
            except QueueError as error:
                self.note = f"Redis refuses: {error}"
                await asyncio.sleep(_REFUSED)

    async def _ask(self) -> None:
        """Ask all workers, again and again; those that start later are found by that."""
        while True:
            for row in await self._asked(await self._queues()):
                self._take(row)
            self.note = ""
            self.asked.set()
            await asyncio.sleep(RENEW)

    async def _asked(self, queues: Sequence[QueueKeys]) -> list[dict[str, Any]]:
        if not queues:
            return []
        return await ask_for_facts(
            self._broker, queues, seconds=WANTED, channel=self._channel, **self._what
        )

    async def _read(self) -> None:
        """Take what workers publish."""
        subscription = await self._broker.subscribe(self._channel)
        try:
            async for payload in subscription:
                row = facts_from_payload(payload)
                if row is not None:
                    self._take(row)
        finally:
            await asyncio.shield(subscription.close())
