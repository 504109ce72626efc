"""One process's connections to one Redis.

    command, pipeline, script ──► idle links (up to 16, one exchange each at a time)
    blocking(name) ─────────────► BlockingReader   own link, named, BZPOPMIN and XREAD
    subscribe(channel) ─────────► Subscription     own link
    wait_until_back ────────────► Recovery         one probing loop for everybody

Nothing is ever sent twice: a command whose connection breaks raises BrokerUnavailable, and its
caller, who knows whether it is harmless, decides.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import weakref
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, ResponseError

from sandboxq.broker.endpoint import endpoint_of_socket, resolve_endpoint
from sandboxq.broker.facts import ServerFacts, check_version, facts_from_info
from sandboxq.broker.link import BrokerLoading, Link, error_from_reply, packed
from sandboxq.broker.reader import BlockingReader, Subscription
from sandboxq.broker.recovery import Recovery
from sandboxq.errors import BrokerUnavailable, QueueError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sandboxq.broker.embedded import EmbeddedUse
    from sandboxq.broker.endpoint import Endpoint
    from sandboxq.broker.link import Argument
    from sandboxq.broker.script import Script
    from sandboxq.telemetry import Telemetry

_log = logging.getLogger("sandboxq.broker")

# Commands beyond so many at once wait for each other: Redis runs them one by one anyway, and ten
# thousand concurrent adds must not become ten thousand connections.
MAX_LINKS = 16
# A server that reads a large file from disk is given so many seconds before we say it is away.
LOADING_PATIENCE = 60.0
_LOADING_DELAYS = (0.01, 0.2)


class Broker:
    """Sends commands and scripts; hands out connections of their own to those who block."""

    def __init__(self, endpoint: Endpoint, embedded: EmbeddedUse | None = None) -> None:
        """Prepare; ``connect`` is what callers use."""
        self.endpoint = endpoint
        self.facts = ServerFacts()
        self._embedded = embedded
        self._idle: list[Link] = []
        self._room = asyncio.Semaphore(MAX_LINKS)
        # Weak, because their owners close them long before the broker, which only sees to the rest.
        self._readers: weakref.WeakSet[BlockingReader | Subscription] = weakref.WeakSet()
        self._recovery = Recovery(self._probe)
        self.is_closed = False
        self._answer_timeout = endpoint.answer_timeout

    @classmethod
    async def connect(cls, url: str | None = None, *, directory: Path | None = None) -> Broker:
        """Connect to ``url``, else $SANDBOXQ_URL, else $REDIS_URL, else the embedded server.

        ``directory`` is the embedded server's, ``./.sandboxq`` by default.
        Raises: BrokerUnavailable (also for Redis < 6.2, Valkey < 8), UsageError for a wrong URL.
        """
        broker = cls(*await resolve_endpoint(url, directory=directory))
        try:
            await broker._greet()
        except BaseException:
            await broker.close()
            raise
        return broker

    # ── commands ────────────────────────────────────────────────────────────

    async def command(self, *args: Argument) -> Any:
        """Run one command; bulk replies are bytes, shapes are RESP2's.

        Raises: BrokerUnavailable, QueueError for an error reply.
        """
        (reply,) = await self._exchange(packed(args), 1)
        if isinstance(reply, ResponseError):
            raise await self._refused(reply) from reply
        return reply

    async def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Run commands in one round trip, not atomically; all run even when one fails.

        Raises: BrokerUnavailable, QueueError for the first error reply.
        """
        if not commands:
            return []
        replies = await self._exchange(b"".join(map(packed, commands)), len(commands))
        await self._check(replies)
        return replies

    async def script(
        self,
        script: Script,
        keys: Sequence[str | bytes],
        args: Sequence[Argument],
    ) -> Any:
        """Run a script by its SHA-1; one that the server does not know is loaded first.

        Raises: BrokerUnavailable, QueueError for an error reply.
        """
        (reply,) = await self.scripts(script, [(keys, args)])
        return reply

    async def scripts(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str | bytes], Sequence[Argument]]],
    ) -> list[Any]:
        """Run one script several times, with the ``(keys, args)`` of each call, in one round trip.

        Raises: BrokerUnavailable, QueueError for the first error reply.
        """
        if not calls:
            return []
        messages = [packed(("EVALSHA", script.sha, len(k), *k, *a)) for k, a in calls]
        replies = await self._exchange(b"".join(messages), len(calls))
        # A call that got NOSCRIPT did not run, so running it again is safe.
        missed = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missed:
            load = packed(("SCRIPT", "LOAD", script.text))
            again = b"".join([load, *(messages[i] for i in missed)])
            loaded, *results = await self._exchange(again, 1 + len(missed))
            await self._check([loaded])
            for i, result in zip(missed, results, strict=True):
                replies[i] = result
        await self._check(replies)
        return replies

    # ── connections of their own ────────────────────────────────────────────

    async def blocking(self, client_name: str) -> BlockingReader:
        """Open a connection for blocking reads, by whose CLIENT name dashboards find the worker.

        Raises: BrokerUnavailable, UsageError when the name has a space or is not printable ASCII.
        """
        reader = BlockingReader(self, client_name)
        await reader.open()
        self._readers.add(reader)
        return reader

    async def subscribe(self, channel: str) -> Subscription:
        """Subscribe to a Pub/Sub channel; when this returns, nothing published is missed.

        Raises: BrokerUnavailable.
        """
        subscription = Subscription(self, channel)
        await subscription.open()
        self._readers.add(subscription)
        return subscription

    # ── presence ────────────────────────────────────────────────────────────

    async def wait_until_back(self, telemetry: Telemetry | None = None) -> None:
        """Return once Redis answers; callers share one loop with back-off and full jitter.

        ``telemetry`` gets one BrokerLost and one BrokerBack for each absence. An embedded server
        that crashed is started again; one that was stopped on purpose is waited for.
        Raises: BrokerUnavailable when the broker is closed.
        """
        self._refuse_when_closed()
        await self._recovery.wait(telemetry)

    async def close(self) -> None:
        """Close every connection and release the embedded server; may be called twice."""
        self.is_closed = True
        self._recovery.stop()
        for reader in list(self._readers):
            await reader.close()
        await self._drop_idle()
        embedded, self._embedded = self._embedded, None
        if embedded is not None:
            await asyncio.to_thread(embedded.release)

    async def open_link(self, key: str, *, client_name: str | None = None) -> Link:
        """Open a connection to the server that has this key; who asks drops it.

        Raises: BrokerUnavailable.
        """
        del key  # there is one server
        self._refuse_when_closed()
        link = Link(self.endpoint, client_name=client_name)
        await link.open()
        return link

    # ── inside ──────────────────────────────────────────────────────────────

    async def _exchange(self, message: bytes, replies: int) -> list[Any]:
        async with self._room:
            link = await self._take_link()
            try:
                return await link.exchange(message, replies=replies, timeout=self._answer_timeout)
            except BrokerUnavailable:
                # The other connections are hardly better, and the next caller should not have to
                # find out one by one.
                await self._drop_idle()
                raise
            finally:
                await self._give_back(link)

    async def _take_link(self) -> Link:
        self._refuse_when_closed()
        while self._idle:
            link = self._idle.pop()
            if await link.is_usable():
                return link
            await link.drop()
        link = Link(self.endpoint)
        await link.open()
        return link

    async def _give_back(self, link: Link) -> None:
        if not link.is_open:
            return
        if self.is_closed:
            await link.drop()
        else:
            self._idle.append(link)

    async def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for link in idle:
            await link.drop()

    def _refuse_when_closed(self) -> None:
        if self.is_closed:
            message = f"the connection to Redis at {self.endpoint.safe} was closed"
            raise BrokerUnavailable(message)

    async def _check(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise await self._refused(reply) from reply

    async def _refused(self, reply: ResponseError) -> QueueError:
        error = error_from_reply(reply)
        if isinstance(error, BrokerUnavailable):
            # A replica or a failing node: the next connection may reach a better one.
            await self._drop_idle()
        return error

    async def _probe(self) -> None:
        """PING on a new connection, past the queue of commands that may hang for seconds."""
        try:
            await self._ping()
        except BrokerUnavailable:
            if self._embedded is None:
                raise
            await asyncio.to_thread(self._embedded.revive)
            self.endpoint = endpoint_of_socket(self._embedded.socket)
            await self._ping()

    async def _ping(self) -> None:
        link = Link(self.endpoint)
        await link.open()
        try:
            (reply,) = await link.exchange(
                packed(("PING",)), replies=1, timeout=self._answer_timeout
            )
            await self._check([reply])
        except BrokerUnavailable:
            await link.drop()
            raise
        except QueueError:
            # It answers; that this user may not PING is no reason to wait.
            return
        finally:
            await self._give_back(link)

    async def _greet(self) -> None:
        self.facts = await self._first_answer()
        check_version(self.facts)
        if self.facts.evicts:
            _log.warning(
                "Redis at %s may evict jobs when its memory is full: maxmemory-policy is %s, "
                "it should be noeviction",
                self.endpoint.safe,
                self.facts.eviction_policy,
            )

    async def _first_answer(self) -> ServerFacts:
        patience_ends = time.monotonic() + LOADING_PATIENCE
        while True:
            try:
                return await self._facts()
            except BrokerLoading:
                if time.monotonic() > patience_ends:
                    raise
                await asyncio.sleep(random.uniform(*_LOADING_DELAYS))  # noqa: S311 - no secret
            except BrokerUnavailable:
                raise
            except QueueError as error:
                _log.warning("Redis at %s hides its version: %s", self.endpoint.safe, error)
                return ServerFacts()

    async def _facts(self) -> ServerFacts:
        facts = facts_from_info(await self.command("INFO"))
        if facts.is_loading:
            # INFO is answered all the same; nothing else is.
            message = f"Redis at {self.endpoint.safe} still reads its data from disk"
            raise BrokerLoading(message)
        return facts
