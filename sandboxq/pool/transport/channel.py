"""The coordinator's end of a child's packet socket: never blocks, takes back what is unread.

Calls that share a packet have tokens: the child takes one before it begins each (child/packets.py).
The coordinator takes back calls of a packet that the child has read by taking their tokens. Until
the child confirms that, by RETURNED, it gets no more calls: it would use their tokens.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections import deque
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING

from sandboxq.child.frames import (
    ANSWERS,
    BLOB_HEAD_SIZE,
    CALLS,
    CHUNK_SIZE,
    DATA,
    DONE,
    HAS_BLOB,
    HEADER,
    HEADER_SIZE,
    MESSAGE_LIMIT,
    MORE,
    PACKET_SIZE,
    PING,
    PROGRESS,
    REPLY,
    REPLY_SIZE,
    numbers_of,
    table_size,
)
from sandboxq.pool.breach import Breach, Flooded, JsonText

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from sandboxq.child.activity_page import ActivityPage

# Packets of one child before the others have their turn.
PACKETS_A_TURN = 32
# Bytes of one child before the others have their turn: milliseconds of checking JSON.
_BYTES_A_TURN = PACKET_SIZE

_DONT_WAIT = socket.MSG_DONTWAIT
# The child has died, which its pidfd tells; only where its end is not held here.
_GONE = (BrokenPipeError, ConnectionResetError)
_pack = HEADER.pack
_unpack = REPLY.unpack_from


# What an answer says of its cost: µs that its job ran, then a Usage of the child.
Spent = tuple[int, int, int, int]


# What the socket of a dead child can still hold: a live one that writes on is not waited for.
_LAST_PACKETS = 1024

_COUNT = struct.Struct("<Q")
# preadv2(2): read where the file is. RWF_NOWAIT and not O_NONBLOCK, which a child can clear.
_HERE = -1


class _Outgoing:
    """A message that is partly sent."""

    __slots__ = ("kind", "position", "seq", "view")

    def __init__(self, kind: int, seq: int, payload: bytes) -> None:
        self.kind = kind
        self.seq = seq
        self.view = memoryview(payload)
        self.position = 0


class Channel:
    """Sends calls, receives replies. Holds the child's end too, to read back what it has not read.

    As long as that copy is open a dead child is no end of file here: its pidfd tells.
    """

    __slots__ = (
        "_a_turn",
        "_far",
        "_limit",
        "_long",
        "_loop",
        "_moved",
        "_near",
        "_on_answers",
        "_on_shut",
        "_outbox",
        "_receiver",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receiver: Callable[..., None],
        on_answers: Callable[[bytes], None] | None = None,
        *,
        limit: Callable[[int], int] | None = None,
        on_shut: Callable[[], None] | None = None,
        packets_a_turn: int = PACKETS_A_TURN,
    ) -> None:
        """Open a pair; ``receiver`` gets kind, flags, detail, Spent, seq and payload.

        ``on_answers`` gets packets of several answers, ``limit`` says how many bytes a message of
        a kind may have. ``on_shut`` is called when the child reads nothing any more. After
        ``packets_a_turn`` packets others have their turn: 1 where a child has one answer to give,
        as looking for a second costs as much as the first.
        """
        self._loop = loop
        self._receiver = receiver
        self._on_answers = on_answers or _ignore
        self._limit = limit or _no_limit
        self._on_shut = on_shut
        self._a_turn = packets_a_turn
        self._near, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The near end only: the child shares the flags of the far one and needs it blocking.
        self._near.settimeout(0)
        self._outbox: deque[_Outgoing] = deque()
        self._long: LongMessage | None = None
        self._moved = 0, 0.0

    def fileno(self) -> int:
        """Return the descriptor to watch for replies."""
        return self._near.fileno()

    def far_fileno(self) -> int:
        """Return the descriptor to give to the child."""
        return self._far.fileno()

    def close_far(self) -> None:
        """Give up the child's end, where nothing is ever read back."""
        self._far.close()

    def send(self, kind: int, seq: int, payload: bytes = b"") -> None:
        """Send a message, now or as soon as the child has read enough."""
        if not self._outbox and len(payload) <= CHUNK_SIZE:
            try:
                self._near.send(_pack(kind, 0, 0, 0, seq) + payload)
            except BlockingIOError:
                pass
            except _GONE:
                self._hear_of_shut()
            else:
                return
        self._outbox.append(_Outgoing(kind, seq, payload))
        if len(self._outbox) == 1:
            self._loop.add_writer(self._near.fileno(), self._on_writable)

    def receive(self) -> bool:
        """Pass on the messages that are there; True when there are perhaps more.

        Raises:
            Breach: what came is no message, is longer than its kind may be, or nothing can come
                any more though the child's end is open here.
        """
        receive = self._near.recv
        size = 0
        for _ in range(self._a_turn):
            try:
                packet = receive(PACKET_SIZE)
            except OSError:  # nothing there, or the listener has closed us meanwhile
                return False
            if not packet:
                message = "has shut down its socket, or sent nothing at all"
                raise Breach(message)
            size += len(packet)
            if packet[0] == ANSWERS and self._long is None:
                self._on_answers(packet)
                continue
            kind, flags, detail, microseconds, seq, user, system, peak = _unpack(packet)
            spent = microseconds, user, system, peak
            if flags & MORE or self._long is not None:
                long = self._long or LongMessage(kind, flags, seq, self._limit(kind))
                long.add(kind, flags, seq, memoryview(packet)[REPLY_SIZE:])
                self._long = long if flags & MORE else None
                if self._long is None:
                    self._receiver(kind, flags, detail, spent, seq, long.whole())
            else:
                self._receiver(kind, flags, detail, spent, seq, packet[REPLY_SIZE:])
            if size > _BYTES_A_TURN:
                return True
        return True

    def receive_last(self) -> None:
        """Pass on what a dead child had sent. Raises: as ``receive``."""
        for _ in range(_LAST_PACKETS // self._a_turn):
            if not self.receive():
                return

    def waiting(self) -> int:
        """Return how many messages wait here until the child has read what was sent before."""
        return len(self._outbox)

    def backlog(self) -> int:
        """Return how many bytes wait here."""
        return sum(len(message.view) - message.position for message in self._outbox)

    def read_at(self, seq: int) -> float:
        """Return when the child has last made room for more of a long message, 0 for others."""
        of, at = self._moved
        return at if of == seq else 0.0

    def take_unread(self) -> tuple[set[int], int]:
        """Read back what the child has not read: numbers of calls, and how many PINGs.

        A message of which the child has read a part is among them: it drops that part.
        """
        taken: set[int] = set()
        pings = sum(message.kind == PING for message in self._outbox)
        for message in self._outbox:
            taken.update(_calls_in(message.kind, message.seq, message.view))
        self._stop_writing()
        while True:
            try:
                packet = self._far.recv(PACKET_SIZE, _DONT_WAIT)
            except OSError:  # nothing is left; or this process is being closed
                break
            if not packet:
                break
            kind, _, _, _, seq = HEADER.unpack_from(packet)
            pings += kind == PING
            taken.update(_calls_in(kind, seq, packet[HEADER_SIZE:]))
        taken.discard(0)
        return taken, pings

    def close(self) -> None:
        """Close both ends; twice is harmless."""
        if self._near.fileno() >= 0:
            self._stop_writing()
            self._near.close()
            self._far.close()

    def _on_writable(self) -> None:
        try:
            if self._outbox and self._outbox[0].position:
                self._moved = self._outbox[0].seq, self._loop.time()
            for _ in range(PACKETS_A_TURN):
                if not self._outbox:
                    self._stop_writing()
                    return
                self._send_chunk(self._outbox[0])
        except BlockingIOError:
            return
        except _GONE:
            self._loop.remove_writer(self._near.fileno())
            self._hear_of_shut()

    def _hear_of_shut(self) -> None:
        if self._on_shut is not None:
            self._loop.call_soon(self._on_shut)

    def _send_chunk(self, message: _Outgoing) -> None:
        end = message.position + CHUNK_SIZE
        is_last = end >= len(message.view)
        index = message.position // CHUNK_SIZE
        header = _pack(message.kind, 0 if is_last else MORE, 0, index, message.seq)
        self._near.sendmsg((header, message.view[message.position : end]))
        message.position = end
        if is_last:
            self._outbox.popleft()

    def _stop_writing(self) -> None:
        if self._outbox:
            self._outbox.clear()
        self._loop.remove_writer(self._near.fileno())


def _calls_in(kind: int, seq: int, payload: bytes | memoryview) -> Sequence[int]:
    return numbers_of(seq, payload) if kind == CALLS else (seq,)


def _ignore(_: bytes) -> None:
    """No calls are sent here."""


def _no_limit(_: int) -> int:
    return MESSAGE_LIMIT


class LongMessage:
    """Its parts are counted before they are kept, and its JSON is looked at packet by packet."""

    __slots__ = ("_buffer", "_has_blob", "_head", "_limit", "_size", "_texts")

    def __init__(self, kind: int, flags: int, seq: int, limit: int) -> None:
        """Gather a message of at most ``limit`` bytes."""
        self._head, self._limit = (kind, flags | MORE, seq), limit
        self._buffer, self._size = BytesIO(), 0
        self._has_blob = kind == DONE and bool(flags & HAS_BLOB)
        # JSON texts one behind the other, and how long each is.
        self._texts = [(sys.maxsize, JsonText())] if kind in (DONE, PROGRESS, DATA) else []

    def add(self, kind: int, flags: int, seq: int, piece: memoryview) -> None:
        """Take what the next packet has. Raises: Breach."""
        if (kind, flags | MORE, seq) != self._head:
            message = "sent one message in the middle of another"
            raise Breach(message)
        is_first = not self._size
        self._size += len(piece)
        if self._size > self._limit:
            raise Flooded(kind, self._limit)
        self._buffer.write(piece)
        if is_first and self._has_blob:
            if len(piece) < BLOB_HEAD_SIZE:
                message = "sent a value that is shorter than its header"
                raise Breach(message)
            self._texts.insert(0, (table_size(piece), JsonText()))
            piece = piece[BLOB_HEAD_SIZE:]
        self._check(piece)

    def whole(self) -> bytes:
        """Return all of it. Raises: Breach."""
        for _, text in self._texts:
            text.end()
        return self._buffer.getvalue()  # shares the buffer: nothing is copied

    def _check(self, piece: memoryview) -> None:
        while self._texts and len(piece):
            size, text = self._texts[0]
            text.feed(piece[:size])
            if len(piece) < size:
                self._texts[0] = size - len(piece), text
                return
            text.end()
            del self._texts[0]
            piece = piece[size:]


class Packets:
    """The packets of several calls that one child was sent."""

    __slots__ = ("_mark", "_seen", "_told", "are_revoked", "last", "tokens")

    def __init__(self, mark: ActivityPage, *, are_allowed: bool = True) -> None:
        """Begin with none. Where they are not allowed, nothing here is shared or believed."""
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE
        self.tokens = os.eventfd(0, flags) if are_allowed else -1
        self._mark = mark
        self.last = 0  # the last call that was sent in a packet with others
        self.are_revoked = False
        self._seen = self._told = 0

    def grant(self, count: int, last: int) -> None:
        """Add tokens for so many calls, before they are sent."""
        self.last = last
        with suppress(BlockingIOError):  # full of tokens that the child has made itself
            os.write(self.tokens, _COUNT.pack(count))

    def revoke(self, most: int) -> int:
        """Take the tokens, ``most`` if there are so many; that many calls do not begin any more."""
        if self.tokens < 0:
            return 0
        token = [bytearray(_COUNT.size)]
        for count in range(most):
            try:
                os.preadv(self.tokens, token, _HERE, os.RWF_NOWAIT)
            except BlockingIOError:
                return count
        return most

    def have_answers(self) -> bool:
        """Tell whether answers are held back, or may be soon."""
        mark = self._mark
        return self.last > mark.latest() or (mark.holds() and mark.held() != self._told)

    def take_stale(self) -> bytes:
        """Return answers that were held back at the last look too, once; they stay there."""
        if self.tokens < 0:
            return b""
        held, seen = self._mark.held(), self._seen
        self._seen = held
        if held != seen or held == self._told or not self._mark.holds():
            return b""
        self._told = held
        return self._mark.read_held(held)

    def take_all(self) -> bytes:
        """Return the answers that a dead child has held back."""
        return self._mark.read_held(self._mark.held()) if self.tokens >= 0 else b""

    def close(self) -> None:
        """Give back the descriptor; twice is harmless."""
        if self.tokens >= 0:
            os.close(self.tokens)
            self.tokens = -1
