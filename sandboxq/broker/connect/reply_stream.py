"""Reads the replies of one connection, within a limit of silence; large ones without a copy.

Who has connected and authenticated (plain_connection.py) gives its transport. With redis-py's
streams each exchange took seven coroutines and some 500 bytecode instructions more.

The time limit counts from the last byte that came or that the peer took: a limit on a whole
exchange would limit how large a job may be on a slow link.

Large values, 100 MB on a Unix socket: redis-py with hiredis writes in 400 ms and reads in 240.
Here the parts go to the transport as they are, and the reply is read into its final memory: 80 and
35 ms.
"""

from __future__ import annotations

import array
import asyncio
from typing import TYPE_CHECKING, Any

from redis.exceptions import AskError, InvalidResponse, MovedError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from sandboxq.broker.connect.resp import INCOMPLETE, reply_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Buffer = bytes | bytearray | memoryview

try:
    import fcntl
    import termios
except ImportError:  # pragma: no cover - Windows has neither
    _UNSENT_REQUEST = None
else:
    _UNSENT_REQUEST = getattr(termios, "TIOCOUTQ", None)

# How often, within the limit, the kernel is asked how much of a message is still unsent.
_LOOKS = 4
# Seconds after which a loop has certainly polled its sockets.
_LAST_LOOK = 0.05

# So many bytes are read while nobody waits for a reply; then reading stops.
_MOST_UNASKED = 128 << 10
_END = b"\r\n"
# The first line of a reply: a type, a number or an error's text, and the end.
_LINE_LIMIT = 4096
# What a node of a cluster answers for a key that it does not have, or not yet.
_KINDS = {"MOVED": MovedError, "ASK": AskError, "TRYAGAIN": TryAgainError}


class Pulse:
    """When bytes last moved on a connection; aborts it when none have moved for too long."""

    __slots__ = (
        "_is_due", "_looks_at", "_loop", "_seconds", "_timer", "_transport", "_unsent", "at",
        "is_over", "is_silent", "received", "size",
    )  # fmt: skip

    def __init__(self, transport: Any) -> None:
        """Watch a transport of the running loop."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self.size = self._unsent = 0  # of the message that is sent
        self.received = 0
        self.is_over = self.is_silent = self._is_due = False
        self._seconds = self._looks_at = 0.0
        self.at = self._loop.time()

    def begin(self, seconds: float, size: int) -> None:
        """Abort the connection after ``seconds`` of silence; ``size`` bytes are about to be sent.

        Sets ``is_silent`` then. ``end`` must be called in any case.
        """
        self.size = self._unsent = size
        self.received = 0
        self.is_over = False
        self._is_due = True
        self._seconds = seconds
        self.at = now = self._loop.time()
        # The timer of the exchange before does as well, unless it comes too late.
        if self._timer is None or self._looks_at > now + seconds / _LOOKS:
            self._look_in(seconds / _LOOKS)

    def end(self) -> None:
        """Note that the whole reply has come."""
        self._is_due = False

    def stop(self) -> None:
        """Look no more: the connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def beat(self, size: int) -> None:
        """Note that so many bytes have come."""
        self.received += size
        self.at = self._loop.time()

    def _look_in(self, seconds: float) -> None:
        self.stop()
        self._looks_at = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._is_due:
            return
        self._look_at_sending()
        left = self.at + self._seconds - self._loop.time()
        if left > 0:
            self.is_over = False
            self._look_in(min(left, self._seconds / _LOOKS))
        elif not self.is_over:
            # A loop that was blocked may not have read yet what has come meanwhile.
            self.is_over = True
            self._look_in(_LAST_LOOK)
        else:
            self.is_silent = True
            # Whoever waits for the connection hears it.
            self._transport.abort()

    def _look_at_sending(self) -> None:
        """Note whether the peer has taken more of the message.

        The last part does not count: a short message is gone before the first check.
        """
        unsent = self._transport.get_write_buffer_size() + _in_kernel(self._transport)
        if 0 < unsent < self._unsent:
            self.at = self._loop.time()
        self._unsent = unsent


def _in_kernel(transport: Any) -> int:
    """Return how many bytes the kernel still holds for the peer; 0 where it does not tell."""
    sock = transport.get_extra_info("socket")
    if _UNSENT_REQUEST is None or sock is None:
        return 0
    unsent = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), _UNSENT_REQUEST, unsent)
    except (OSError, ValueError):  # ValueError: it is closed
        return 0
    return unsent[0]


class _ErrorReplies:
    """Makes exceptions of error replies; ``refusal`` is one that ends the connection, if any.

    That is: Redis is still loading its data, or wants a password.
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
        """Take over a connected transport; ``pulse`` is told how many bytes come."""
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
        """Whether it can take a command: not lost, and nothing came that was not asked for."""
        has_come = self._unasked or self._replies or self._reader.has_data()
        return self._lost is None and not has_come

    def ask(self, message: bytes, replies: int) -> asyncio.Future[list[Any]]:
        """Send commands as ``send`` does; the result is so many replies.

        Error replies are among them. Raises: RedisError, OSError, at once or by the future.
        """
        self.send(message)
        return self.next_replies(replies)

    def send(self, message: bytes) -> None:
        """Send in this turn of the loop. Raises: RedisError, OSError."""
        self._refuse_when_lost()
        self._transport.write(message)

    def ask_large(self, parts: Sequence[Buffer]) -> asyncio.Future[list[Any]]:
        """Send one command in parts, none of which is copied here; see ``ask``."""
        self._refuse_when_lost()
        self._transport.writelines(parts)
        return self.next_replies(1)

    def next_replies(self, number: int) -> asyncio.Future[list[Any]]:
        """Return a future of the next replies; they are kept when it is cancelled."""
        self._wanted = number
        self._waiter = waiter = self._loop.create_future()
        # Not while more replies are kept than are wanted: more would come than are taken.
        if self._unasked and len(self._replies) <= number:
            self._read_on()
        if self._replies or self._lost is not None or not number:
            self._hand_out()
        return waiter

    def take_back(self, waiter: asyncio.Future[list[Any]]) -> None:
        """Keep the replies of a waiter whose caller was cancelled in the same turn of the loop."""
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self._replies[:0] = waiter.result()

    def data_received(self, data: bytes) -> None:
        """Read what came, and give the waiter its replies once all are here."""
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
        """Fail the waiter, and each later one."""
        self._lose(exc or RedisConnectionError("the connection was closed by the server"))
        self._hand_out()

    def _hand_out(self) -> None:
        """Give the waiter its replies, or the error that prevents them."""
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


def large_message(command: Sequence[bytes | str | float], parts: Sequence[Buffer]) -> list[Buffer]:
    """Return a command in wire form; its last argument is all parts together."""
    head = b"*%d\r\n" % (len(command) + 1)
    for argument in command:
        raw = argument if isinstance(argument, bytes) else str(argument).encode()
        head += b"$%d\r\n%b\r\n" % (len(raw), raw)
    size = sum(len(part) for part in parts)
    return [head + b"$%d\r\n" % size, *(part for part in parts if len(part)), _END]


class LargeValueReceiver(asyncio.BufferedProtocol):
    """Reads one string reply into memory that is allocated once its size is known."""

    def __init__(
        self, allocate: Callable[[int], memoryview], on_bytes: Callable[[int], None]
    ) -> None:
        """``allocate`` gets the size, if there is a reply; ``on_bytes`` each number of bytes."""
        self._on_bytes = on_bytes
        self.reply: asyncio.Future[memoryview | None] = asyncio.get_running_loop().create_future()
        self._allocate = allocate
        self._line = bytearray()
        self._small = memoryview(bytearray(_LINE_LIMIT))
        self._target: memoryview | None = None
        self._filled = 0
        self._ends_left = len(_END)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        del sizehint
        if self._target is None:
            # At most the shortest possible reply: nothing is read beyond it.
            return self._small[:4]
        if self._filled < len(self._target):
            return self._target[self._filled :]
        # The transport asks for room even when the whole reply has come.
        return self._small[: self._ends_left or 1]

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of what has come."""
        self._on_bytes(nbytes)
        if self.reply.done():
            return
        if self._target is None:
            try:
                self._on_line(bytes(self._small[:nbytes]))
            except ValueError as error:
                self.reply.set_exception(
                    ConnectionError(f"Redis sent data that is no valid reply: {error}")
                )
        elif self._filled < len(self._target):
            self._filled += nbytes
        else:
            self._ends_left -= nbytes
            self._end_if_all_is_there()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail when the reply is not complete."""
        if not self.reply.done():
            self.reply.set_exception(exc or ConnectionResetError("the connection was closed"))
            self.reply.exception()  # it may be that nobody waits any more

    def _on_line(self, received: bytes) -> None:
        self._line += received
        line, end, rest = bytes(self._line).partition(_END)
        if not end:
            if len(self._line) > _LINE_LIMIT:
                self.reply.set_exception(ConnectionError("Redis sent data that is no valid reply"))
            return
        if line[:1] == b"-":
            self.reply.set_exception(_error(line[1:].decode(errors="replace")))
        elif line[:1] != b"$":
            self.reply.set_exception(ConnectionError(f"Redis answered {line[:100]!r}"))
        elif int(line[1:]) < 0:
            self.reply.set_result(None)
        else:
            self._begin(int(line[1:]), rest)

    def _begin(self, size: int, rest: bytes) -> None:
        """Go on with the string itself, whose first bytes came with the line."""
        try:
            self._target = self._allocate(size)
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            self.reply.set_exception(error)
            return
        body, tail = rest[:size], rest[size:]
        self._target[: len(body)] = body
        self._filled = len(body)
        self._ends_left -= len(tail)

    def _end_if_all_is_there(self) -> None:
        if not self._ends_left:
            self.reply.set_result(self._target)


def _error(text: str) -> ResponseError:
    """Return an error reply as redis-py reads it: some kinds have classes, and lose that word."""
    kind, _, rest = text.partition(" ")
    return _KINDS[kind](rest) if kind in _KINDS else ResponseError(text)
