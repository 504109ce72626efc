"""Hears from each Sentinel that a replica was promoted, while the old master still takes writes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from sandboxq.broker.link import Link, error_from_reply, packed
from sandboxq.errors import BrokerUnavailable, QueueError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sandboxq.broker.endpoint import Endpoint

# The first comes from the Sentinel that leads the failover, as soon as the replica says that it is
# a master; the second from every Sentinel, when it has the new configuration.
CHANNELS = ("+promoted-slave", "+switch-master")
# Seconds: a silent Sentinel is asked whether it lives, and has the second time to answer.
_SILENCE = 10.0
_ANSWER = 3.0
# Seconds between two tries to reach a Sentinel.
_PAUSE = (0.5, 1.5)


class SentinelWatch:
    """One subscription to each Sentinel, for as long as the connections to the master are used."""

    def __init__(
        self,
        sentinels: Sequence[Endpoint],
        on_news: Callable[[Endpoint], Awaitable[None]],
        *,
        timeout: float,
    ) -> None:
        """Tell ``on_news`` which Sentinel has something to say; it is asked then.

        ``timeout`` is the seconds that a Sentinel has to take the subscription.
        """
        self._sentinels = sentinels
        self._on_news = on_news
        self._timeout = timeout
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Subscribe in the background; twice is harmless."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._follow(each)) for each in self._sentinels]

    async def close(self) -> None:
        """End the subscriptions; may be called twice."""
        tasks, self._tasks = self._tasks, []
        if any(task.get_loop() is not asyncio.get_running_loop() for task in tasks):
            return  # their event loop has ended, and they with it
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, sentinel: Endpoint) -> None:
        while True:
            link = Link(sentinel)
            try:
                await self._listen(link, sentinel)
            except QueueError:
                await asyncio.sleep(random.uniform(*_PAUSE))  # noqa: S311 - no secret
            finally:
                await link.drop()

    async def _listen(self, link: Link, sentinel: Endpoint) -> None:
        await link.open()
        message = packed(("SUBSCRIBE", *CHANNELS))
        replies = await link.exchange(message, replies=len(CHANNELS), timeout=self._timeout)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise error_from_reply(reply) from reply
        # What was told before this subscription: the master may have been asked for before that.
        await self._tell(sentinel)
        while True:
            push = await self._next_push(link)
            if push[0] == b"message":
                await self._tell(sentinel)

    async def _tell(self, sentinel: Endpoint) -> None:
        with contextlib.suppress(QueueError):  # the next answer may be better
            await self._on_news(sentinel)

    async def _next_push(self, link: Link) -> list[bytes]:
        try:
            async with asyncio.timeout(_SILENCE):
                return list(await link.next_push())
        except TimeoutError:
            pass
        try:
            async with asyncio.timeout(_ANSWER):
                await link.send("PING")
                return list(await link.next_push())
        except TimeoutError as error:
            message = "the Sentinel's subscription is dead"
            raise BrokerUnavailable(message) from error
