"""The connections to one server for commands that do not block; idle ones are kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sandboxq.broker.connect.abandoned import AbandonedConnections
from sandboxq.broker.connect.connection import packed
from sandboxq.errors import BrokerUnavailable, TooLarge
from sandboxq.model.validation import count_from_wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sandboxq.broker.connect.connection import Connection
    from sandboxq.broker.connect.resp import Argument

# Commands beyond so many at once wait for each other: Redis runs them one by one anyway, and ten
# thousand concurrent adds must not become ten thousand connections.
MAX_LINKS = 16


# Bytes of one value, unless the server says otherwise (proto-max-bulk-len): it disconnects a client
# that sends more, without a reply. No server can be set to less than a megabyte.
USUAL_LIMIT = 512 << 20
LEAST_LIMIT = 1 << 20
LIMIT_QUESTION = ("CONFIG", "GET", "proto-max-bulk-len")


def limit_from_reply(reply: Any) -> int:
    """Return the answer to LIMIT_QUESTION; USUAL_LIMIT where asking is refused."""
    is_told = isinstance(reply, list) and len(reply) > 1
    return (is_told and count_from_wire(reply[1])) or USUAL_LIMIT


class ConnectionPool:
    """Up to MAX_LINKS connections, each used for one exchange at a time."""

    def __init__(
        self, open_link: Callable[[], Awaitable[Connection]], *, answer_timeout: float
    ) -> None:
        """``open_link`` connects; ``answer_timeout`` is how long an exchange may be silent."""
        self._open_link = open_link
        self._answer_timeout = answer_timeout
        self._idle: list[Connection] = []
        self._abandoned = AbandonedConnections()
        self._room = asyncio.Semaphore(MAX_LINKS)
        self._is_closed = False
        self._limit: int | None = None

    async def exchange(
        self, commands: Sequence[Sequence[Argument]], timeout: float | None = None
    ) -> list[Any]:
        """Send commands in one round trip and return the replies, error replies among them.

        ``timeout`` is how long it may be silent when that is less than usual.
        Raises: BrokerUnavailable when the connection is lost; whether Redis ran them is unknown.
        TooLarge when the server would not read one of them; none ran then.
        """
        message = b"".join(map(packed, commands))
        if len(message) > LEAST_LIMIT:
            await self._refuse_too_large(commands)
        usual = self._answer_timeout
        silence = usual if timeout is None else min(usual, timeout)
        async with self._room:
            link = await self._take()
            try:
                return await self._abandoned.exchange(
                    link, message, replies=len(commands), timeout=silence
                )
            except BrokerUnavailable:
                self._limit = None  # the server may be another now
                # The other connections are hardly better, and the next caller should not have to
                # find out one by one.
                await self.drop_idle()
                raise
            finally:
                await self._give_back(link)

    async def _refuse_too_large(self, commands: Sequence[Sequence[Argument]]) -> None:
        sizes = (_size_of(argument) for command in commands for argument in command)
        largest = max(sizes, default=0)
        if largest <= LEAST_LIMIT:
            return
        if self._limit is None:
            (reply,) = await self.exchange([LIMIT_QUESTION])
            self._limit = limit_from_reply(reply)
        if largest > self._limit:
            message = (
                f"a value of {largest} bytes is more than the {self._limit} that this Redis takes "
                "in one (proto-max-bulk-len)"
            )
            raise TooLarge(message)

    async def exchange_anew(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Do the same over a new connection, not limited by MAX_LINKS: others may hang."""
        link = await self._open_link()
        try:
            message = b"".join(map(packed, commands))
            return await link.exchange(message, replies=len(commands), timeout=self._answer_timeout)
        finally:
            await self._give_back(link)

    async def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        idle, self._idle = self._idle, []
        for link in idle:
            await link.drop()

    async def close(self) -> None:
        """Close every connection, those in use once they come back."""
        self._is_closed = True
        await self.drop_idle()

    async def _take(self) -> Connection:
        while self._idle:
            link = self._idle.pop()
            is_usable = False
            try:
                is_usable = await link.is_usable()
            finally:
                # Also when the caller is cancelled meanwhile: nobody else has this connection.
                if not is_usable:
                    await link.drop()
            if is_usable:
                return link
        return await self._open_link()

    async def _give_back(self, link: Connection) -> None:
        if not link.is_open:
            self._abandoned.note(link)
        elif self._is_closed:
            await link.drop()
        else:
            self._idle.append(link)


def _size_of(argument: Argument) -> int:
    if isinstance(argument, bytes):
        return len(argument)
    # Only where it matters it is encoded for this.
    is_large = isinstance(argument, str) and 4 * len(argument) > LEAST_LIMIT
    return len(argument.encode()) if isinstance(argument, str) and is_large else 0
