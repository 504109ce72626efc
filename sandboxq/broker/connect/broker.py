"""One process's connections to one Redis.

    command, pipeline, script ──► Servers ──► ConnectionPool   up to 16 to each server
    blocking(name, key) ────────► BlockingReader     own connection, named, BZPOPMIN and XREAD
    subscribe(channel) ─────────► Subscription       own connection
    wait_until_back ────────────► Recovery           one probing loop for all callers

No command that may have run is sent twice: when its connection breaks, BrokerUnavailable is raised,
and the caller decides, who knows whether repeating is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from sandboxq.broker.connect.blocking import BlockingReader, Subscription
from sandboxq.broker.connect.cluster import ClusterServers
from sandboxq.broker.connect.connection import LoopBinding, error_from_reply
from sandboxq.broker.connect.connection_pool import LIMIT_QUESTION, USUAL_LIMIT, limit_from_reply
from sandboxq.broker.connect.endpoint import ClusterEndpoint, SentinelEndpoint
from sandboxq.broker.connect.recovery import Recovery
from sandboxq.broker.connect.replies import check_replies
from sandboxq.broker.connect.resolve import resolve_endpoint
from sandboxq.broker.connect.script import ScriptCalls
from sandboxq.broker.connect.sentinel import SentinelServers
from sandboxq.broker.connect.server_info import (
    ServerInfo,
    ServerTime,
    check_not_in_cluster,
    facts_from_info,
    greet,
    ms_from_time,
)
from sandboxq.broker.connect.servers import OneServer
from sandboxq.errors import BrokerUnavailable, QueueError, UsageError
from sandboxq.model.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from sandboxq.broker.connect.connection import Connection
    from sandboxq.broker.connect.resolve import AnyEndpoint
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.connect.script import Script
    from sandboxq.broker.connect.servers import Servers
    from sandboxq.broker.embedded.server import EmbeddedUse
    from sandboxq.model.clock import Clock
    from sandboxq.observe.telemetry import Telemetry


class Broker:
    """Sends commands and scripts; hands out connections of their own to those who block."""

    def __init__(self, servers: Servers, clock: Clock) -> None:
        """Prepare; ``connect`` is what callers use."""
        self._servers = servers
        self.time = ServerTime(clock)
        self._binding = LoopBinding()
        self._script_calls = ScriptCalls()
        self.facts = ServerInfo()
        # What ``most_bytes`` was answered last.
        self.value_limit = USUAL_LIMIT
        # Weak, because their owners close them long before the broker, which closes only the rest.
        self._readers: weakref.WeakSet[BlockingReader | Subscription] = weakref.WeakSet()
        self._recovery = Recovery(servers.probe)
        self.is_closed = False

    @classmethod
    async def connect(
        cls, url: str | None = None, *, directory: Path | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> Broker:
        """Connect to ``url``, else $SANDBOXQ_URL, else $REDIS_URL, else the embedded server.

        ``directory`` is the embedded server's, ``./.sandboxq`` by default.
        Raises: BrokerUnavailable (also for Redis < 6.2, Valkey < 8), UsageError for a wrong URL.
        """
        broker = cls(_servers_at(*await resolve_endpoint(url, directory=directory)), clock)
        try:
            await broker._greet()
        except BaseException:
            await broker.close()
            raise
        return broker

    @property
    def endpoint(self) -> AnyEndpoint:
        """Where Redis is, as the URL says it; its text has no password."""
        return self._servers.endpoint

    # ── commands ────────────────────────────────────────────────────────────

    async def command(self, *args: Argument) -> Any:
        """Run one command; bulk replies are bytes, shapes are RESP2's.

        Raises: BrokerUnavailable, QueueError for an error reply.
        """
        (reply,) = await self._exchange([args])
        if isinstance(reply, ResponseError):
            raise await self._refused(reply) from reply
        return reply

    async def command_to_each(self, *args: Argument) -> list[Any]:
        """Run one command on every master of a cluster, else on the one server.

        Raises: BrokerUnavailable, QueueError for the first error reply.
        """
        self._refuse_when_closed()
        replies = await self._servers.send_to_each(args)
        check_replies([args] * len(replies), replies)
        await self._check(replies)
        return replies

    async def pipeline(
        self, commands: Sequence[Sequence[Argument]], *, timeout: float | None = None
    ) -> list[Any]:
        """Run commands in one round trip, not atomically; all run even when one fails.

        ``timeout`` is how many seconds of silence are allowed when that is less than usual.
        Raises: BrokerUnavailable, QueueError for the first error reply.
        """
        if not commands:
            return []
        replies = await self._exchange(commands, timeout)
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
        *,
        timeout: float | None = None,
    ) -> list[Any]:
        """Run one script several times, with the ``(keys, args)`` of each call, in one round trip.

        ``timeout`` is how many seconds of silence are allowed when that is less than usual.
        Raises: BrokerUnavailable, QueueError for the first error reply.
        """
        replies = await self._run_scripts(script, calls, timeout)
        await self._check(replies)
        return replies

    async def try_scripts(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str | bytes], Sequence[Argument]]],
    ) -> list[Any]:
        """Do the same, with a QueueError in the place of each reply that is an error.

        Raises: BrokerUnavailable, also when a server as a whole refuses.
        """
        replies = await self._run_scripts(script, calls)
        for place, reply in enumerate(replies):
            if isinstance(reply, ResponseError):
                replies[place] = error = await self._refused(reply)
                if isinstance(error, BrokerUnavailable):
                    raise error from reply
        return replies

    async def _run_scripts(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str | bytes], Sequence[Argument]]],
        timeout: float | None = None,
    ) -> list[Any]:
        if not calls:
            return []
        return await self._script_calls.run(
            lambda commands: self._exchange(commands, timeout),
            lambda commands: self._servers.send_to_each(commands[0]),
            script,
            calls,
        )

    async def scan(self, *args: Argument) -> AsyncIterator[list[bytes]]:
        """Yield the keys of a SCAN with these arguments, page by page, of a cluster all masters'.

        Raises: BrokerUnavailable, QueueError for an error reply.
        """
        self._refuse_when_closed()
        async for keys in self._servers.scan(args):
            yield keys

    async def now_ms(self) -> int:
        """Return the time of the server's clock in milliseconds; it is seldom asked for.

        Raises: BrokerUnavailable.
        """
        if self.time.is_stale:
            await self._ask_for_time()
        return self.time.now_ms()

    async def most_bytes(self) -> int:
        """Return how many bytes one value may have. Raises: BrokerUnavailable."""
        try:
            replies = await self.command_to_each(*LIMIT_QUESTION)
        except BrokerUnavailable:
            raise
        except QueueError:
            return self.value_limit
        self.value_limit = min(map(limit_from_reply, replies))
        return self.value_limit

    # ── keys of a cluster ───────────────────────────────────────────────────

    def refuse_untagged(self, key: str) -> None:
        """Raise UsageError on a cluster unless the key has a hash tag."""
        self._servers.refuse_untagged(key)

    def refuse_far(self, key: str, other: str) -> None:
        """Raise UsageError on a cluster unless both keys lie in one slot."""
        self._servers.refuse_far(key, other)

    # ── connections of their own ────────────────────────────────────────────

    async def blocking(self, client_name: str, key: str) -> BlockingReader:
        """Open a connection for blocking reads, by whose CLIENT name dashboards find the worker.

        ``key`` is one of those that will be read: a cluster has others elsewhere.
        Raises: BrokerUnavailable, UsageError when the name has a space or is not printable ASCII.
        """
        reader = BlockingReader(self, client_name, key)
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

    async def wait_until_back(
        self, telemetry: Telemetry | None = None, *, at_most: float | None = None
    ) -> None:
        """Return once Redis answers; callers share one loop with back-off and full jitter.

        ``at_most`` is for those who may miss Redis for less time than it is away: where connections
        are cut again and again, everybody waits longer each time. So many seconds, then they try.

        ``telemetry`` gets one BrokerLost and one BrokerBack for each absence. An embedded server
        that crashed is started again; one that was stopped on purpose is waited for.
        Raises: BrokerUnavailable when the broker is closed.
        """
        self._refuse_when_closed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                await self._recovery.wait(telemetry)

    @property
    def seconds_since_return(self) -> float:
        """Seconds since Redis was back from an absence that was noticed here, or was started."""
        return self._recovery.seconds_since_return

    async def wait_for_return(self, timeout: float) -> None:
        """Return when Redis is back from an absence, or after ``timeout`` seconds."""
        await self._recovery.wait_for_return(timeout)

    async def uptime(self) -> float:
        """Return for how many seconds the server has run; inf where it does not tell.

        Of several masters the one that was started last counts. Raises: BrokerUnavailable.
        """
        try:
            replies = await self.command_to_each("INFO", "server")
        except BrokerUnavailable:
            raise
        except QueueError:
            return float("inf")
        return min(facts_from_info(reply).uptime for reply in replies)

    async def close(self) -> None:
        """Close every connection and release the embedded server; may be called twice.

        Also from another event loop, once the one that connected has ended.
        """
        self.is_closed = True
        self._recovery.stop()
        for reader in list(self._readers):
            await reader.close()
        await self._servers.close()

    async def open_link(self, key: str, *, client_name: str | None = None) -> Connection:
        """Open a connection to the server that has this key; the caller drops it.

        Raises: BrokerUnavailable.
        """
        self._refuse_when_closed()
        return await self._servers.open_link(key, client_name=client_name)

    async def heed(self, reply: ResponseError) -> None:
        """Note an error reply that names another server as the right one."""
        await self._servers.heed(reply)

    def refuse_elsewhere(self) -> None:
        """Raise UsageError in another process or event loop than the one that connected."""
        if not self._binding.is_here:
            message = (
                f"the connection to Redis at {self.endpoint.safe} was made in another event loop "
                "or before a fork: connect in the one that uses it"
            )
            raise UsageError(message)

    # ── inside ──────────────────────────────────────────────────────────────

    async def _exchange(
        self, commands: Sequence[Sequence[Argument]], timeout: float | None = None
    ) -> list[Any]:
        self._refuse_when_closed()
        replies = await self._servers.send(commands, timeout)
        check_replies(commands, replies)
        return replies

    def _refuse_when_closed(self) -> None:
        if self.is_closed:
            message = f"the connection to Redis at {self.endpoint.safe} was closed"
            raise BrokerUnavailable(message)
        self.refuse_elsewhere()

    async def _check(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise await self._refused(reply) from reply

    async def _refused(self, reply: ResponseError) -> QueueError:
        await self._servers.heed(reply)
        return error_from_reply(reply)

    async def _greet(self) -> None:
        every = await greet(self)
        self.facts = every[0]
        self._recovery.note_uptime(min(facts.uptime for facts in every))
        if isinstance(self._servers, OneServer) and self.facts.is_cluster:
            check_not_in_cluster(await self.command("CLUSTER", "INFO"))

    async def _ask_for_time(self) -> None:
        asked = self.time.reading()
        try:
            server_ms = ms_from_time(await self.command("TIME"))
        except BrokerUnavailable:
            raise
        except QueueError:
            server_ms = asked.wall_ms  # this user may not ask
        self.time.note(asked, server_ms)


def _servers_at(endpoint: AnyEndpoint, embedded: EmbeddedUse | None) -> Servers:
    match endpoint:
        case ClusterEndpoint():
            return ClusterServers(endpoint)
        case SentinelEndpoint():
            return SentinelServers(endpoint)
        case _:
            return OneServer(endpoint, embedded)
