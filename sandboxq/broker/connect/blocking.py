"""Connections for commands that block: waiting for markers and events, and Pub/Sub."""

from __future__ import annotations

import asyncio
import logging
import re
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Protocol

from redis.exceptions import AskError, ResponseError, TryAgainError

from sandboxq.broker.connect.abandoned import AbandonedConnections
from sandboxq.broker.connect.connection import error_from_reply, packed
from sandboxq.broker.connect.replies import check_replies
from sandboxq.broker.connect.script import load
from sandboxq.broker.connect.stream_position import look_from_reply
from sandboxq.errors import BrokerUnavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.connect.connection import Connection
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.connect.stream_position import Look

# Redis before 7.0.8 turns a block of 1 ms into one for ever, and 0 is for ever everywhere.
SHORTEST_BLOCK = 0.002
# Seconds: a blocked connection that is silent for so long after its timeout is dead (protocol.md
# 1.4).
WATCHDOG_SECONDS = 2.0
# Bound the memory of one read; the rest comes with the next. How many entries that is, is estimated
# from the size of the last read.
EVENTS_PER_READ = 1000
BYTES_PER_READ = 2 << 20
# Bytes: a read that is lost with more was perhaps lost for its size.
_LARGE = 256 << 10
# Seconds until a silent subscription is sent a PING, and that it has to answer.
SUBSCRIPTION_SILENCE = 10.0
SUBSCRIPTION_ANSWER = 5.0
# Seconds before a read is repeated whose slot is moving to another node of a cluster.
_MOVING_DELAY = 0.05

_log = logging.getLogger("sandboxq.broker")

_text_of = methodcaller("decode", "utf-8", "replace")
_CLIENT_NAME = re.compile(r"[!-~]+")


class LinkSource(Protocol):
    """Opens connections, and knows whether Redis answers."""

    is_closed: bool

    async def open_link(self, key: str, *, client_name: str | None = None) -> Connection:
        """Open a connection to the server that has this key. Raises: BrokerUnavailable."""

    async def heed(self, reply: ResponseError) -> None:
        """Note an error reply that names another server as the right one."""

    async def wait_until_back(self) -> None:
        """Return once Redis answers."""


class BlockingReader:
    """One named connection that waits inside Redis. For one caller at a time."""

    def __init__(self, broker: LinkSource, client_name: str, key: str) -> None:
        """Prepare a reader of ``key`` and its like; ``open`` connects it."""
        if not _CLIENT_NAME.fullmatch(client_name):
            message = f"client name {client_name!r} must be printable ASCII without spaces"
            raise UsageError(message)
        self._broker = broker
        self._client_name = client_name
        self._key = key
        self._link: Connection | None = None
        self._abandoned = AbandonedConnections()
        self._is_closed = False
        self._events_per_read = EVENTS_PER_READ
        self._has_told_loss = False

    async def open(self) -> None:
        """Connect and set the CLIENT name. Raises: BrokerUnavailable."""
        await self._usable_link()

    async def pop_marker(self, key: str, timeout: float) -> float | None:
        """Pop the lowest member of a sorted set and return its score; None after ``timeout`` s.

        Raises: BrokerUnavailable when the connection is lost; the next call connects again.
        """
        seconds = max(timeout, SHORTEST_BLOCK)
        (reply,) = await self._ask(seconds, ("BZPOPMIN", key, f"{seconds:.3f}"))
        return None if reply is None else float(reply[2])

    async def time(self) -> list[bytes]:
        """Return the server's time: seconds and microseconds. Raises: BrokerUnavailable."""
        (reply,) = await self._ask(0, ("TIME",))
        return list(reply)

    async def pop_marker_and_run(
        self, key: str, timeout: float, command: Sequence[Argument]
    ) -> tuple[Any, Any, Any]:
        """Pop as ``pop_marker`` does, and run a command behind it without another round trip.

        Returns the server's TIME before the wait, the reply or error of the pop, and the reply of
        the command, which may have run although the pop was refused (a slot moved between them).
        Raises: as above; whether the command ran is unknown when the connection is lost.
        """
        seconds = max(timeout, SHORTEST_BLOCK)
        pop = ("BZPOPMIN", key, f"{seconds:.3f}")
        time, popped, reply = await self._ask(seconds, ("TIME",), pop, command, unless=1)
        return time, popped, reply

    @property
    def received(self) -> int:
        """How many bytes of the pending reply, or of the last one, have come."""
        return 0 if self._link is None else self._link.received

    async def unblock(self) -> None:
        """End the wait of another task as if its time were over. Raises: BrokerUnavailable."""
        client = None if self._link is None else self._link.client
        if client is None:
            return
        link = await self._broker.open_link(self._key)
        try:
            message = packed(("CLIENT", "UNBLOCK", client.number))
            await link.exchange(message, replies=1, timeout=WATCHDOG_SECONDS)
        finally:
            await link.drop()

    async def read_events(
        self, key: str, last_id: str, timeout: float
    ) -> list[tuple[str, dict[str, str]]]:
        """Return ``(id, fields)`` of stream entries after ``last_id``; empty after ``timeout`` s.

        Raises: BrokerUnavailable when the connection is lost; the next call connects again.
        """
        seconds = max(timeout, SHORTEST_BLOCK)
        (reply,) = await self._read(seconds, (), key, last_id)
        return _events_from_reply(reply)

    async def look_and_read_events(
        self, key: str, last_id: str, timeout: float
    ) -> tuple[Look, list[tuple[str, dict[str, str]]]]:
        """Return the state of the stream, and what ``read_events`` returns.

        Raises: BrokerUnavailable when the connection is lost; the next call connects again.
        """
        seconds = max(timeout, SHORTEST_BLOCK)
        # Both in one round trip, hence EVAL: NOSCRIPT would come only after the read.
        look = ("EVAL", load("events_look").text, 1, key)
        looked, reply = await self._read(seconds, (look,), key, last_id)
        return look_from_reply(looked), _events_from_reply(reply)

    async def close(self) -> None:
        """Close the connection; may be called twice."""
        self._is_closed = True
        if self._link is not None:
            await self._link.drop()

    async def _read(
        self, seconds: float, before: Sequence[Sequence[Argument]], key: str, last_id: str
    ) -> list[Any]:
        """Return the replies of some commands and then of XREAD, with bounded size."""
        count, block_ms = self._events_per_read, round(seconds * 1000)
        read = ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", key, last_id)
        try:
            replies = await self._ask(seconds, *before, read)
        except BrokerUnavailable as error:
            if error.moved > _LARGE:
                self._read_less(error)
            raise
        self._has_told_loss = False
        # A stream that was trimmed to nothing meanwhile comes without any entry.
        if replies[-1] and (entries := replies[-1][0][1]):
            average = self.received / len(entries)
            # After a loss it grows again, but step by step.
            wanted = min(EVENTS_PER_READ, 2 * count, int(BYTES_PER_READ / average))
            self._events_per_read = max(1, wanted)
        return replies

    def _read_less(self, error: BrokerUnavailable) -> None:
        self._events_per_read = max(1, self._events_per_read // 8)
        if not self._has_told_loss:
            self._has_told_loss = True
            _log.warning(
                "events were lost on their way after %.1f MB and are read again, %d at a time: %s",
                error.moved / 1e6,
                self._events_per_read,
                error,
            )

    async def _ask(
        self, seconds: float, *commands: Sequence[Argument], unless: int | None = None
    ) -> list[Any]:
        """Return the replies; only the one at this index may be an error."""
        message = b"".join(map(packed, commands))
        clock = asyncio.get_running_loop().time
        ends_at = clock() + seconds
        while True:
            link = await self._usable_link()
            deadline = seconds + WATCHDOG_SECONDS
            try:
                replies = await link.exchange(message, replies=len(commands), timeout=deadline)
            finally:
                if not link.is_open:
                    self._abandoned.note(link)
            refusal = _first_error(replies, unless)
            if refusal is None:
                await self._check(commands, replies)
                return replies
            await self._broker.heed(refusal)
            error = error_from_reply(refusal)
            if isinstance(error, BrokerUnavailable):
                await link.drop()
            if not isinstance(refusal, (AskError, TryAgainError)) or clock() > ends_at:
                raise error from refusal
            # The slot is moving to another node, or has moved: nothing ran, so ask again.
            await asyncio.sleep(_MOVING_DELAY)

    async def _check(self, commands: Sequence[Sequence[Argument]], replies: list[Any]) -> None:
        try:
            check_replies(commands, replies)
        except BrokerUnavailable:
            # It may be the reply to another command, and so may the next one.
            if self._link is not None:
                await self._link.drop()
            raise

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            message = "this reader was closed"
            raise BrokerUnavailable(message)

    async def _usable_link(self) -> Connection:
        self._refuse_when_closed()
        if self._link is not None and await self._link.is_usable():
            return self._link
        if self._link is not None:
            await self._link.drop()
        # A new link each time: the embedded server may have come back at another path.
        self._link = await self._broker.open_link(self._key, client_name=self._client_name)
        if self._is_closed:
            # Closed while it was opened: nobody else would close it.
            await self._link.drop()
            self._refuse_when_closed()
        # Alone, so that ``unblock`` knows by what to call it, and what a former connection holds is
        # ended before anything is asked for anew.
        await self._abandoned.exchange(self._link, b"", replies=0, timeout=WATCHDOG_SECONDS)
        return self._link


class Subscription:
    """An endless ``async for`` over the payloads of one channel; it reconnects by itself.

    What is published while Redis is away is lost: Pub/Sub keeps nothing.
    """

    def __init__(self, broker: LinkSource, channel: str) -> None:
        """Prepare a subscription; ``open`` connects it."""
        self._broker = broker
        self._channel = channel
        self._link: Connection | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Connect and subscribe. Raises: BrokerUnavailable."""
        link = await self._broker.open_link(self._channel)
        message = packed(("SUBSCRIBE", self._channel))
        (reply,) = await link.exchange(message, replies=1, timeout=SUBSCRIPTION_ANSWER)
        if isinstance(reply, ResponseError):
            await link.drop()
            raise error_from_reply(reply) from reply
        self._link = link

    def __aiter__(self) -> Subscription:
        """Return itself."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next payload; ends when the subscription or its broker is closed."""
        while not self._is_closed:
            try:
                payload = await self._next_payload()
            except BrokerUnavailable:
                await self._reopen()
            else:
                if payload is not None:
                    return payload
        raise StopAsyncIteration

    async def close(self) -> None:
        """End the iteration and close the connection; may be called twice."""
        self._is_closed = True
        if self._link is not None:
            await self._link.drop()

    async def _next_payload(self) -> bytes | None:
        """Return a payload, or None for a push that carries none."""
        if self._link is None:
            message = "not subscribed"
            raise BrokerUnavailable(message)
        try:
            async with asyncio.timeout(SUBSCRIPTION_SILENCE):
                push = await self._link.next_push()
        except TimeoutError:
            push = await self._answer_to_ping(self._link)
        return _payload_of(push)

    async def _answer_to_ping(self, link: Connection) -> Any:
        try:
            async with asyncio.timeout(SUBSCRIPTION_ANSWER):
                await link.send("PING")
                return await link.next_push()
        except TimeoutError as error:
            await link.drop()
            message = "the subscription's connection is dead"
            raise BrokerUnavailable(message) from error

    async def _reopen(self) -> None:
        if self._is_closed:
            return
        try:
            await self._broker.wait_until_back()
            await self.open()
        except BrokerUnavailable:
            if self._broker.is_closed:
                self._is_closed = True
            # Else away again; wait_until_back paces the loop in __anext__.
        if self._is_closed and self._link is not None:
            await self._link.drop()


def _payload_of(push: Any) -> bytes | None:
    match push:
        case [b"message", _, bytes(payload)]:
            return payload
        case _:
            return None


def _first_error(replies: list[Any], unless: int | None) -> ResponseError | None:
    for place, reply in enumerate(replies):
        if isinstance(reply, ResponseError) and place != unless:
            return reply
    return None


def _events_from_reply(reply: Any) -> list[tuple[str, dict[str, str]]]:
    return [] if reply is None else [_event_from_entry(entry) for entry in reply[0][1]]


def _event_from_entry(entry: tuple[bytes, list[bytes]]) -> tuple[str, dict[str, str]]:
    entry_id, flat = entry
    texts = map(_text_of, flat)
    return entry_id.decode(), dict(zip(texts, texts, strict=True))
