"""Who answers for which key: one server, a master that Sentinels watch, or a cluster's masters.

Each kind is a class with the methods of Servers; the broker knows no more of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from redis.exceptions import ResponseError

from sandboxq.broker.connect.connection import Connection, error_from_reply
from sandboxq.broker.connect.connection_pool import ConnectionPool
from sandboxq.broker.connect.endpoint import endpoint_of_socket
from sandboxq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sandboxq.broker.connect.endpoint import Endpoint
    from sandboxq.broker.connect.resolve import AnyEndpoint
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.embedded.server import EmbeddedUse


class Servers(Protocol):
    """Sends commands to the server that has their keys, and follows when another one gets them."""

    @property
    def endpoint(self) -> AnyEndpoint:
        """Where they are."""

    async def send(
        self, commands: Sequence[Sequence[Argument]], timeout: float | None = None
    ) -> list[Any]:
        """Return the replies, error replies among them. Raises: BrokerUnavailable, UsageError.

        ``timeout`` is how many seconds of silence are allowed when that is less than usual.
        """

    async def send_to_each(self, command: Sequence[Argument]) -> list[Any]:
        """Return the reply of each master. Raises: BrokerUnavailable."""

    def scan(self, arguments: Sequence[Argument]) -> AsyncIterator[list[bytes]]:
        """Yield the keys of a SCAN with these arguments over all masters, page by page."""

    async def open_link(self, key: str, *, client_name: str | None = None) -> Connection:
        """Open a connection of its own to the server that has this key."""

    async def heed(self, reply: ResponseError) -> None:
        """Take note of an error reply that says that another server is the right one."""

    async def probe(self) -> None:
        """Raise BrokerUnavailable while a server that is needed does not answer."""

    def refuse_untagged(self, key: str) -> None:
        """Raise UsageError when keys like this one cannot be used with these servers."""

    def refuse_far(self, key: str, other: str) -> None:
        """Raise UsageError when no script may touch both keys."""

    async def close(self) -> None:
        """Close every connection; may be called twice."""


class OneServer:
    """One Redis; the embedded one is started again when it crashed."""

    def __init__(self, endpoint: Endpoint, embedded: EmbeddedUse | None = None) -> None:
        """Send to this server."""
        self.endpoint = endpoint
        self._embedded = embedded
        self._connections = ConnectionPool(self._open, answer_timeout=endpoint.answer_timeout)

    async def send(
        self, commands: Sequence[Sequence[Argument]], timeout: float | None = None
    ) -> list[Any]:
        """Do what Servers says."""
        return await self._connections.exchange(commands, timeout)

    async def send_to_each(self, command: Sequence[Argument]) -> list[Any]:
        """Do what Servers says."""
        return await self._connections.exchange([command])

    def scan(self, arguments: Sequence[Argument]) -> AsyncIterator[list[bytes]]:
        """Do what Servers says."""
        return scan_one(self._connections, arguments)

    async def open_link(self, key: str, *, client_name: str | None = None) -> Connection:
        """Do what Servers says."""
        del key
        return await self._open(client_name)

    async def heed(self, reply: ResponseError) -> None:
        """Do what Servers says."""
        if isinstance(error_from_reply(reply), BrokerUnavailable):
            # A replica or a failing server: the next connection may reach a better one.
            await self._connections.drop_idle()

    async def probe(self) -> None:
        """Do what Servers says."""
        try:
            await ping(self._connections)
        except BrokerUnavailable:
            if self._embedded is None:
                raise
            await asyncio.to_thread(self._embedded.revive)
            self.endpoint = endpoint_of_socket(self._embedded.socket)
            await ping(self._connections)

    def refuse_untagged(self, key: str) -> None:
        """Do what Servers says: one server has room for all."""

    def refuse_far(self, key: str, other: str) -> None:
        """Do what Servers says: one server has room for all."""

    async def close(self) -> None:
        """Do what Servers says."""
        await self._connections.close()
        embedded, self._embedded = self._embedded, None
        if embedded is not None:
            await asyncio.to_thread(embedded.release)

    async def _open(self, client_name: str | None = None) -> Connection:
        link = Connection(self.endpoint, client_name=client_name)
        await link.open()
        return link


async def ping(connections: ConnectionPool, *question: Argument) -> None:
    """Ask a server, over a new connection, whether it answers: PING unless told what to ask.

    Raises: BrokerUnavailable. Any other refusal is an answer: that this user may not ask is no
    reason to wait.
    """
    (reply,) = await connections.exchange_anew([question or ("PING",)])
    if isinstance(reply, ResponseError):
        error = error_from_reply(reply)
        if isinstance(error, BrokerUnavailable):
            await connections.drop_idle()
            raise error from reply


async def scan_one(
    connections: ConnectionPool, arguments: Sequence[Argument]
) -> AsyncIterator[list[bytes]]:
    """Yield the keys of a SCAN on one server, page by page."""
    cursor = 0
    while True:
        (reply,) = await connections.exchange([("SCAN", cursor, *arguments)])
        if isinstance(reply, ResponseError):
            raise error_from_reply(reply) from reply
        yield reply[1]
        cursor = int(reply[0])
        if not cursor:
            return
