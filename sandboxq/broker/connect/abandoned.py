"""Connections that were dropped while a reply was due, and are closed on their server.

A connection may be dead on our side only: the server still holds the commands that were sent, such
as a BZPOPMIN with a claim behind it, and runs the claim when a job comes. The next connection to
that server closes the former ones first, in the same round trip.
"""

from __future__ import annotations

import logging
import re
from typing import Any, NamedTuple, Protocol

from redis.exceptions import ResponseError

from sandboxq.broker.connect.resp import packer

_log = logging.getLogger("sandboxq.broker")

_packed = packer()
# Sent first over each connection: asks for its number and address, as the server sees them.
WHO = _packed(("CLIENT", "INFO"))
_WHO_ANSWER = re.compile(rb"id=(\d+) addr=(\S+) ")
# More are an outage in which the server has closed them itself.
_MOST = 64
_already_told: set[str] = set()


class Client(NamedTuple):
    """A connection as its server knows it.

    After a restart, or on another server, the number alone would be another client's.
    """

    url: str
    number: bytes
    address: bytes


def client_from_reply(url: str, reply: Any) -> Client | None:
    """Return who CLIENT INFO says we are; None where that is refused."""
    match = _WHO_ANSWER.match(reply) if isinstance(reply, bytes) else None
    return None if match is None else Client(url, match[1], match[2])


class Connected(Protocol):
    """What a later connection must know of an earlier one."""

    client: Client | None

    @property
    def url(self) -> str:
        """Where it leads to."""

    @property
    def safe(self) -> str:
        """Where it leads to, for people."""

    @property
    def is_remote(self) -> bool:
        """Whether it can die on one side only."""

    async def exchange(self, message: bytes, *, replies: int, timeout: float) -> list[Any]:
        """Send packed commands and return their replies."""


class AbandonedConnections:
    """Those of one user of connections: a ConnectionPool, or a reader that blocks."""

    def __init__(self) -> None:
        """Begin with none."""
        self._clients: list[Client] = []

    def note(self, link: Connected) -> None:
        """Note a connection that was dropped while a reply was due."""
        # A Unix socket is never dead on one side only.
        if link.client is not None and link.is_remote and len(self._clients) < _MOST:
            self._clients.append(link.client)

    async def exchange(
        self, link: Connected, message: bytes, *, replies: int, timeout: float
    ) -> list[Any]:
        """Do what Connection.exchange does, and close the former connections before it."""
        if not self._clients:
            return await link.exchange(message, replies=replies, timeout=timeout)
        mine = [client for client in self._clients if client.url == link.url]
        kills = b"".join(
            _packed(("CLIENT", "KILL", "ID", each.number, "ADDR", each.address)) for each in mine
        )
        number = len(mine) + replies
        answers = await link.exchange(kills + message, replies=number, timeout=timeout)
        self._clients = [each for each in self._clients if each not in mine]
        for answer in answers[: len(mine)]:
            if isinstance(answer, ResponseError):
                tell_once(link.safe, str(answer))
        return answers[len(mine) :]


def tell_once(where: str, refusal: str) -> None:
    """Log that this user may not close connections: after a loss some jobs wait seconds longer."""
    if where not in _already_told:
        _already_told.add(where)
        _log.warning(
            "Redis at %s does not let this user end its own former connections (%s): allow CLIENT "
            "INFO and CLIENT KILL, or a job that a dead connection claims waits some seconds",
            where,
            refusal,
        )
