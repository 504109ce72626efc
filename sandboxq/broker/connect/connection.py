"""One connection to Redis, used for one exchange at a time, and dropped when in doubt.

It belongs to one process and one event loop (LoopBinding); no other can use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import socket
from typing import TYPE_CHECKING, Any, NoReturn

from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from sandboxq.broker.connect.abandoned import WHO, client_from_reply, tell_once
from sandboxq.broker.connect.plain_connection import error_from_text
from sandboxq.broker.connect.reply_stream import (
    LargeValueReceiver,
    Pulse,
    ReplyStream,
    large_message,
)
from sandboxq.broker.connect.resp import packer
from sandboxq.errors import BrokerUnavailable, QueueError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.broker.connect.abandoned import Client
    from sandboxq.broker.connect.endpoint import Endpoint
    from sandboxq.broker.connect.reply_stream import Buffer
    from sandboxq.broker.connect.resp import Argument

# Connections of the process that this one was forked from. They must never be collected: closing
# a transport would edit the epoll set that the parent process still uses.
_of_parents: list[object] = []

# Seconds: a connection that was idle for longer may have been closed by a restart of the server
# without our loop having noticed. On the hot path it is less, and checking costs 20 µs.
_IDLE_SECONDS = 0.01
# Passes through the loop after which it has certainly polled its sockets once.
_POLL_PASSES = 3
# Error replies that say "not now" and go away without the caller: the command did not run. Those
# that redis-py knows lose their first word; Redis 6 wraps what a script met.
# AskError is also MOVED: the slot is elsewhere, which is found out before the command is repeated.
_NOT_NOW_KINDS = (
    AskError,
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_NOT_NOW = re.compile(r"(?:^|: -)(?:BUSY|MISCONF|NOREPLICAS|OOM|READONLY|UNBLOCKED) ")
packed = packer()


class LoopBinding:
    """Where connections were made: this process and the running event loop."""

    __slots__ = ("_loop", "_pid")

    def __init__(self) -> None:
        """Belong to this process and the running loop."""
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is the same process, and the running loop is the same one."""
        return self._loop is asyncio.get_running_loop() and self._pid == os.getpid()

    @property
    def is_of_parent(self) -> bool:
        """Whether this process was forked from the one that made the connections."""
        return self._pid != os.getpid()

    @property
    def is_in_use(self) -> bool:
        """Whether the other loop runs now, which only another thread of this process can do."""
        return not self.is_of_parent and self._loop.is_running()


def leave_to_parent(connections: object) -> None:
    """Keep what belongs to the parent process, without ever using it."""
    _of_parents.append(connections)


class BrokerLoading(BrokerUnavailable):
    """Redis is up and still reads its data from disk."""


class Connection:
    """One connection. A deadline that passes or a cancelled caller closes it: a reply is due.

    Time limits are on silence: bytes that come, or that the peer takes, start them anew. Once it
    has authenticated, replies are read by a ReplyStream.
    """

    def __init__(self, endpoint: Endpoint, *, client_name: str | None = None) -> None:
        """Prepare a connection; nothing is sent before ``open``."""
        self._endpoint = endpoint
        self._connection = endpoint.new_connection(client_name)
        self._binding = LoopBinding()
        self._time = asyncio.get_running_loop().time
        # Opened, and not dropped since.
        self.is_open = False
        self._transport: Any = None
        self._pulse: Pulse
        self._stream: ReplyStream
        self._poll: select.poll | None = None
        self._tells_client = True
        # Its number and address at the server, after the first exchange; None where refused.
        self.client: Client | None = None

    @property
    def url(self) -> str:
        """Identifies the server."""
        return self._endpoint.url

    @property
    def is_remote(self) -> bool:
        """Whether it can die on one side only."""
        return self._endpoint.is_remote

    @property
    def safe(self) -> str:
        """The URL of the server, without password, for messages."""
        return self._endpoint.safe

    @property
    def received(self) -> int:
        """How many bytes of the current or last reply have come."""
        return self._pulse.received

    async def open(self) -> None:
        """Connect, authenticate, select the database, set the client name.

        Raises:
            BrokerUnavailable: Redis is not there, refuses this client, or loads its data.
        """
        timeout = self._endpoint.connect_timeout
        try:
            async with asyncio.timeout(timeout):
                await self._connection.connect()
            await self._take_over()
        except (RedisError, OSError) as error:
            await self.drop()
            self._raise_unavailable(error, timeout)
        except BaseException:
            await self.drop()
            raise

    async def _take_over(self) -> None:
        """Take the transport over from who has connected and authenticated."""
        assert self._connection.writer is not None  # noqa: S101 - it has just connected
        transport: Any = self._connection.writer.transport
        if transport.is_closing() or await self._connection.can_read():
            message = "the connection was closed by the server, or the server sent data unasked"
            raise RedisConnectionError(message)
        self._transport = transport
        self._pulse = Pulse(transport)
        self._poll = _poll_of(transport.get_extra_info("socket"))
        self._stream = ReplyStream(transport, self._pulse, error_from_text)
        self.is_open = True

    async def exchange(self, message: bytes, *, replies: int, timeout: float) -> list[Any]:
        """Send packed commands and return their replies; an error reply is returned, not raised.

        ``timeout`` is how many seconds of silence are allowed.
        Raises: BrokerUnavailable when the connection is lost; whether Redis ran it is unknown.
        """
        self._pulse.begin(timeout, len(message))
        try:
            if self._tells_client:
                return await self._exchange_first(message, replies)
            return await self._stream.ask(message, replies)
        except (RedisError, OSError) as error:
            await self.drop()
            self._raise_unavailable(error, timeout)
        except BaseException:
            await self.drop()
            raise
        finally:
            self._pulse.end()

    async def _exchange_first(self, message: bytes, replies: int) -> list[Any]:
        """Do so the first time: the same round trip asks for the connection's number."""
        self._tells_client = False
        (who,) = await self._stream.ask(WHO + message, 1)
        self.client = client_from_reply(self.url, who)
        if isinstance(who, ResponseError):
            tell_once(self.safe, str(who))
        return await self._stream.next_replies(replies)

    async def send_large(
        self, command: Sequence[Argument], parts: Sequence[Buffer], *, timeout: float
    ) -> Any:
        """Send a command whose last argument is these parts, none of which is copied here.

        The parts must not change before this returns. Raises: as ``exchange``.
        """
        message = large_message(command, parts)
        self._pulse.begin(timeout, sum(map(len, message)))
        try:
            (reply,) = await self._stream.ask_large(message)
        except (RedisError, OSError) as error:
            await self.drop()
            self._raise_unavailable(error, timeout)
        except BaseException:
            await self.drop()
            raise
        finally:
            self._pulse.end()
        return reply

    async def receive_large(
        self, command: Sequence[Argument], allocate: Callable[[int], memoryview], *, timeout: float
    ) -> memoryview | ResponseError | None:
        """Return the reply, a string, in the memory that ``allocate`` gives for its size.

        None when there is no value. It is read straight into that memory; the connection cannot be
        used afterwards. Raises: as ``exchange``.
        """
        # redis-py would hold it three times: in its stream, its parser and the reply.
        transport = self._transport
        receiver = LargeValueReceiver(allocate, self._pulse.beat)
        self._pulse.begin(timeout, 0)
        try:
            transport.set_protocol(receiver)
            transport.write(packed(command))
            return await receiver.reply
        except (RedisError, OSError) as error:
            if isinstance(error, ResponseError):
                return error
            self._raise_unavailable(error, timeout)
        finally:
            self._pulse.end()
            await self.drop()

    async def next_push(self) -> Any:
        """Return the next Pub/Sub message. Cancelling does not harm the connection."""
        waiter = self._stream.next_replies(1)
        try:
            (push,) = await waiter
            if isinstance(push, ResponseError):
                raise push
        except asyncio.CancelledError:
            self._stream.take_back(waiter)
            raise
        except (RedisError, OSError) as error:
            await self.drop()
            self._raise_unavailable(error, 0)
        return push

    async def send(self, *arguments: Argument) -> None:
        """Send a command whose reply comes as a push."""
        try:
            self._stream.send(packed(arguments))
        except (RedisError, OSError) as error:
            await self.drop()
            self._raise_unavailable(error, 0)

    async def is_usable(self) -> bool:
        """Whether an idle connection can take a command: open, and nothing to read on it."""
        if not self.is_open:
            return False
        if self._time() - self._pulse.at > _IDLE_SECONDS and self._has_news():
            for _ in range(_POLL_PASSES):
                await asyncio.sleep(0)
        # What can be read is either the end or a reply that nobody waits for.
        return self._stream.is_clean

    def _has_news(self) -> bool:
        """Tell whether the kernel has bytes of the server that the loop has not read.

        One system call instead of three passes through the loop.
        """
        return self._poll is None or bool(self._poll.poll(0))

    async def drop(self) -> None:
        """Close at once, whatever is under way."""
        self.is_open = False
        if not self._binding.is_here:
            self._abandon()
            return
        if self._transport is not None:
            self._pulse.stop()
            # ``close`` would first send all that is buffered.
            self._transport.abort()
        try:
            await self._connection.disconnect()
        except (RedisError, OSError):
            # A transport may raise because it is closed already.
            return

    def _abandon(self) -> None:
        """Close a connection whose event loop has ended."""
        writer = self._connection.forget()
        connected = None if writer is None else writer.get_extra_info("socket")
        if connected is not None:
            # TypeError: uvloop's, which has closed the descriptor with the loop.
            with contextlib.suppress(OSError, TypeError):
                connected.shutdown(socket.SHUT_RDWR)

    def _raise_unavailable(self, error: Exception, timeout: float) -> NoReturn:
        cause = _first_cause(error)
        is_silent = self._transport is not None and self._pulse.is_silent
        if is_silent or isinstance(cause, TimeoutError):
            message = f"Redis at {self._endpoint.safe} did not answer within {timeout:g} s"
            raise self._with_sizes(BrokerUnavailable(message)) from error
        kind = BrokerLoading if isinstance(cause, BusyLoadingError) else BrokerUnavailable
        message = f"Redis at {self._endpoint.safe}: {cause}"
        raise self._with_sizes(kind(message)) from error

    def _with_sizes(self, error: BrokerUnavailable) -> BrokerUnavailable:
        if self._transport is not None:
            error.moved = self._pulse.received + self._pulse.size
        return error


def error_from_reply(reply: ResponseError) -> QueueError:
    """Translate an error reply: BrokerUnavailable when the server as a whole says "not now"."""
    text = str(reply)
    if isinstance(reply, _NOT_NOW_KINDS) or _NOT_NOW.search(text):
        return BrokerUnavailable(f"Redis refuses for now: {text}")
    return QueueError(text)


def _poll_of(connected: Any) -> select.poll | None:
    """Return a poll object that tells whether a socket can be read; None where there is none."""
    if connected is None or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(connected.fileno(), select.POLLIN)
    return poll


def _first_cause(error: BaseException) -> BaseException:
    """Return the error that redis-py wrapped, with TLS: it hides the kind of it."""
    while isinstance(error.__cause__, RedisError):
        error = error.__cause__
    return error
