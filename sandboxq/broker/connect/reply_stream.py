"""Reads the replies of one connection, and gives them to whoever waits for so many.

redis-py connects, authenticates and selects; then its transport is taken over. By its streams each
exchange took seven coroutines and some 500 bytecode instructions more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

from sandboxq.broker.connect.resp import INCOMPLETE, reply_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.broker.connect.idle_timeout import Pulse
    from sandboxq.broker.connect.large_values import Buffer

# Bytes that come while nobody waits for a reply; then the server is read no further.
_MOST_UNASKED = 128 << 10


class _ErrorReplies:
    """Makes errors of error replies; ``refusal`` is one that ends the connection, if there was one.

    Redis loads its data still, or wants a password.
    """

    __slots__ = ("_from_text", "refusal")

    def __init__(self, from_text: Callable[[str], Exception]) -> None:
        self._from_text = from_text
        self.refusal: RedisConnectionError | None = None

    def __call__(self, text: str) -> Exception:
        error = self._from_text(text)
        if isinstance(error, RedisConnectionError):
            self.refusal = error
        return error


class ReplyStream(asyncio.Protocol):
    """The protocol of a connected transport; its errors are RedisError and OSError."""

    def __init__(
        self, transport: Any, pulse: Pulse, error_from_text: Callable[[str], Exception]
    ) -> None:
        """Take over a transport to which nobody else listens; ``pulse`` hears what comes."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._pulse = pulse
        self._errors = _ErrorReplies(error_from_text)
        self._reader = reply_reader(self._errors)
        self._replies: list[Any] = []
        self._waiter: asyncio.Future[list[Any]] | None = None
        self._wanted = 0
        self._unasked = 0
        self._lost: Exception | None = None
        transport.set_protocol(self)

    @property
    def is_clean(self) -> bool:
        """Whether it can take a command: not lost, and nothing has come that nobody waits for."""
        has_come = self._unasked or self._replies or self._reader.has_data()
        return self._lost is None and not has_come

    def ask(self, message: bytes, replies: int) -> asyncio.Future[list[Any]]:
        """Send commands as ``send`` does; the result is so many replies.

        Error replies are among them. Raises: RedisError, OSError, at once or by the future.
        """
        self.send(message)
        return self.next_replies(replies)

    def send(self, message: bytes) -> None:
        """Send in this very turn of the loop. Raises: RedisError, OSError."""
        self._refuse_when_lost()
        self._transport.write(message)

    def ask_large(self, parts: Sequence[Buffer]) -> asyncio.Future[list[Any]]:
        """Send one command in parts, none of which is copied here; see ``ask``."""
        self._refuse_when_lost()
        self._transport.writelines(parts)
        return self.next_replies(1)

    def next_replies(self, number: int) -> asyncio.Future[list[Any]]:
        """Return what has the next replies once they are here; when it is cancelled, they stay."""
        self._wanted = number
        self._waiter = waiter = self._loop.create_future()
        # Not while there are more: one at a time, they would be fewer than what comes meanwhile.
        if self._unasked and len(self._replies) <= number:
            self._read_on()
        if self._replies or self._lost is not None or not number:
            self._hand_out()
        return waiter

    def take_back(self, waiter: asyncio.Future[list[Any]]) -> None:
        """Keep what a waiter has whose caller was cancelled in the same turn of the loop."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self._replies[:0] = waiter.result()

    def data_received(self, data: bytes) -> None:
        """Take what came, and hand it out when it is enough."""
        pulse = self._pulse
        pulse.received += len(data)
        pulse.at = self._loop.time()
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not INCOMPLETE:
                self._replies.append(reply)
        except Exception as error:  # noqa: BLE001 - also a list too long for us, or what hiredis makes no key
            self._lose(InvalidResponse(str(error) or repr(error)))
            self._transport.abort()
        if self._waiter is not None:
            self._hand_out()
        else:
            self._hold_back(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits, now and later."""
        self._lose(exc or RedisConnectionError("the connection was closed by the server"))
        self._hand_out()

    def _hand_out(self) -> None:
        """Give the waiter what it waits for, or the reason why that does not come."""
        waiter, replies = self._waiter, self._replies
        if waiter is None or waiter.done():
            self._waiter = None
            return
        number = self._wanted
        if self._errors.refusal is not None:
            waiter.set_exception(self._errors.refusal)
        elif len(replies) == number:
            self._replies = []
            waiter.set_result(replies)
        elif len(replies) > number:
            self._replies = replies[number:]
            waiter.set_result(replies[:number])
        elif self._lost is not None:
            waiter.set_exception(self._lost)
        else:
            return
        self._waiter = None

    def _hold_back(self, size: int) -> None:
        self._unasked += size
        if self._unasked > _MOST_UNASKED:
            self._transport.pause_reading()

    def _read_on(self) -> None:
        was_paused, self._unasked = self._unasked > _MOST_UNASKED, 0
        if was_paused and self._lost is None:
            self._transport.resume_reading()

    def _lose(self, error: Exception) -> None:
        if self._lost is None:
            self._lost = error

    def _refuse_when_lost(self) -> None:
        if self._lost is not None:
            raise self._lost
        if self._transport.is_closing():
            message = "the connection was closed"
            raise RedisConnectionError(message)
