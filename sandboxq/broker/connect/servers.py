"""Which server has which key: one server, a master named by Sentinels, or a cluster's masters.

Each kind is a class with the methods of Servers, all that the broker uses. Of a cluster also the
hash slot of a key or a command (Redis Cluster specification).
"""

from __future__ import annotations

import asyncio
import binascii
import functools
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from redis.exceptions import ResponseError

from sandboxq.broker.connect.connection import Connection, error_from_reply
from sandboxq.broker.connect.connection_pool import ConnectionPool
from sandboxq.broker.connect.endpoint import endpoint_of_socket
from sandboxq.errors import BrokerUnavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sandboxq.broker.connect.endpoint import Endpoint
    from sandboxq.broker.connect.resolve import AnyEndpoint
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.embedded.server import EmbeddedUse

SLOTS = 16384

# Commands that have no key: any node may answer them.
_KEYLESS = frozenset({"CLIENT", "CLUSTER", "ECHO", "INFO", "PING", "ROLE", "SCAN", "SCRIPT"})
_SCRIPT_CALLS = frozenset({"EVAL", "EVALSHA"})
_XINFO = frozenset({"XINFO", "OBJECT", "MEMORY"})


class Owner(NamedTuple):
    """The address of the master of some slots; an empty host: that of the node that told it."""

    host: str
    port: int


def slot_of_key(key: str | bytes) -> int:
    """Return the slot of a key by its hash tag.

    Raises: UsageError when it has no tag: the keys of its queue would lie in many slots.
    """
    text = key if isinstance(key, bytes) else key.encode()
    _, brace, rest = text.partition(b"{")
    tag, end, _ = rest.partition(b"}")
    if not (brace and end and tag):
        shown = text.decode(errors="replace")
        message = (
            f"on a Redis Cluster all keys of a queue must lie in one slot, and {shown!r} has no "
            "hash tag: give prefix='{bull}' (on the command line --prefix '{bull}', in Node "
            "prefix: \"{bull}\"), or name the queue '{name}'"
        )
        raise UsageError(message)
    return _slot_of_tag(tag)


@functools.lru_cache(maxsize=1024)
def _slot_of_tag(tag: bytes) -> int:
    return binascii.crc_hqx(tag, 0) % SLOTS


def is_script_call(command: Sequence[Argument]) -> bool:
    """Whether the command runs a script, which may touch keys beyond those that it names."""
    return command[0] in _SCRIPT_CALLS


def slot_of_command(command: Sequence[Argument]) -> int | None:
    """Return the slot of a command's keys, None when it has none.

    Raises: UsageError when a key has no tag, or the keys of a script are in different slots.
    """
    keys = _keys_of(command)
    if not keys:
        return None
    slot = slot_of_key(keys[0])
    for key in keys[1:]:
        if slot_of_key(key) != slot:
            raise UsageError(_far_apart(keys[0], key))
    return slot


def first_key(command: Sequence[Argument]) -> str | bytes:
    """Return the first key of a command that has one."""
    return _keys_of(command)[0]


def refuse_other_slot(key: str, other: str) -> None:
    """Raise UsageError unless both keys are in one slot."""
    if slot_of_key(key) != slot_of_key(other):
        raise UsageError(_far_apart(key, other))


def _keys_of(command: Sequence[Argument]) -> list[str | bytes]:
    name = command[0]
    if name in _KEYLESS:
        return []
    if name in _SCRIPT_CALLS:
        return [_key(each) for each in command[3 : 3 + int(command[2])]]
    if name == "XREAD":
        return [_key(command[list(command).index("STREAMS") + 1])]
    return [_key(command[2 if name in _XINFO else 1])]


def _key(argument: Argument) -> str | bytes:
    return argument if isinstance(argument, (str, bytes)) else str(argument)


def _far_apart(key: str | bytes, other: str | bytes) -> str:
    one, two = (k if isinstance(k, str) else k.decode(errors="replace") for k in (key, other))
    return (
        f"{one!r} and {two!r} lie in different slots of the Redis Cluster: queues whose jobs are "
        "parents and children of each other need the same hash tag, as with one prefix='{bull}' "
        "for all of them; nothing was written"
    )


def owners_from_reply(reply: Sequence[Any]) -> list[tuple[range, Owner]]:
    """Return who has which slots, from the reply of CLUSTER SLOTS."""
    return [
        (range(int(row[0]), int(row[1]) + 1), owner_from_reply(row[2][0], row[2][1]))
        for row in reply
    ]


def owner_from_reply(host: bytes | str | None, port: int | str) -> Owner:
    """Return an address from Redis: a node that does not know its own name says ``?``."""
    name = host.decode() if isinstance(host, bytes) else host or ""
    return Owner("" if name == "?" else name, int(port))


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
        """Note an error reply that names another server as the right one."""

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
            # A replica or a failing server: the next connection may reach another one.
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
    """Send PING, or ``question``, over a new connection to see whether the server answers.

    Raises: BrokerUnavailable. Any other error reply counts as an answer.
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
