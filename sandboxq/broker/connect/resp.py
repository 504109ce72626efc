"""Packs commands and parses replies: with hiredis, four times faster, where it may be used.

On a free-threaded interpreter the import of hiredis would switch the GIL on for the whole process
(redis/hiredis-py#229), and redis-py imports it wherever it is installed. This module is therefore
imported before redis.
"""

from __future__ import annotations

import sys
import sysconfig
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    Argument = bytes | str | int | float
    Pack = Callable[[Sequence[Argument]], bytes]
    ErrorFromText = Callable[[str], Exception]

# What ``gets`` returns until a whole reply is there: None is a reply.
INCOMPLETE = object()
_END = b"\r\n"
# Of one line: a type and a number, a short string, or an error's text. Redis's own limit.
_LONGEST_LINE = 64 << 10
# No reply of a command or of our scripts has more lists in lists, nor longer ones and strings.
_DEEPEST = 32
_LONGEST = 2**32


class ReplyReader(Protocol):
    """Makes replies of the bytes of a connection, which may come in any pieces."""

    def feed(self, data: bytes, /) -> None:
        """Take the next bytes."""

    def gets(self) -> Any:
        """Return the next reply, or INCOMPLETE. Raises: ValueError for what is no reply."""

    def has_data(self) -> bool:
        """Whether there are bytes of which no reply was made; hiredis tells only of lists."""


def keep_hiredis_out() -> None:
    """Let every later import of hiredis fail on a free-threaded build; elsewhere do nothing."""
    if sysconfig.get_config_var("Py_GIL_DISABLED") and "hiredis" not in sys.modules:
        sys.modules["hiredis"] = None  # type: ignore[assignment]  # so importlib knows what is not there


def packer() -> Pack:
    """Return the function that packs a command."""
    try:
        import hiredis  # noqa: PLC0415 - it is not everywhere
    except ImportError:
        return pack
    return lambda arguments: hiredis.pack_command(tuple(arguments))  # type: ignore[arg-type]  # its stub


def pack(arguments: Sequence[Argument]) -> bytes:
    """Return one command in wire form: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        raw = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def reply_reader(error_from_text: ErrorFromText) -> ReplyReader:
    """Return a reader of RESP2 replies: bytes, int, None, lists, and these errors."""
    try:
        import hiredis  # noqa: PLC0415 - it is not everywhere
    except ImportError:
        return PlainReplyReader(error_from_text)
    reader: ReplyReader = hiredis.Reader(
        protocolError=ValueError, replyError=error_from_text, notEnoughData=INCOMPLETE
    )
    return reader


class PlainReplyReader:
    """Reads replies without hiredis; each byte is looked at once."""

    def __init__(self, error_from_text: ErrorFromText) -> None:
        """``error_from_text`` makes the error of an error reply."""
        self._error_from_text = error_from_text
        self._buffer = bytearray()
        self._at = 0
        self._reading: Generator[None, None, Any] | None = None

    def feed(self, data: bytes, /) -> None:
        """Take the next bytes."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def has_data(self) -> bool:
        """Whether there are bytes of which no reply was made."""
        return self._reading is not None or self._at < len(self._buffer)

    def gets(self) -> Any:
        """Return the next reply, or INCOMPLETE. Raises: ValueError for what is no reply."""
        if not self.has_data():
            return INCOMPLETE
        self._reading = self._reading or self._reply(0)
        try:
            next(self._reading)
        except StopIteration as end:
            self._reading = None
            return end.value
        return INCOMPLETE

    def _reply(self, depth: int) -> Generator[None, None, Any]:
        """Return one reply; yield while there is not enough of it."""
        line = yield from self._line()
        kind, text = line[:1], line[1:]
        if kind == b"+":
            return text
        if kind == b"-":
            return self._error_from_text(text.decode(errors="replace"))
        if kind == b":":
            return int(text)
        if kind not in (b"$", b"*") or depth > _DEEPEST:
            message = f"Redis sent data that is no valid reply: {line[:100]!r}"
            raise ValueError(message)
        size = int(text)
        if not -1 <= size <= _LONGEST:
            message = f"Redis answered with a length of {size}"
            raise ValueError(message)
        if size < 0:
            return None
        return (yield from self._string(size) if kind == b"$" else self._list(size, depth))

    def _list(self, size: int, depth: int) -> Generator[None, None, list[Any]]:
        replies = []
        for _ in range(size):
            replies.append((yield from self._reply(depth + 1)))  # noqa: PERF401 - nothing yields in a comprehension
        return replies

    def _string(self, size: int) -> Generator[None, None, bytes]:
        while len(self._buffer) - self._at < size + len(_END):
            yield
        begin, end = self._at, self._at + size
        if self._buffer[end : end + len(_END)] != _END:
            message = "Redis answered with a string that is longer than it said"
            raise ValueError(message)
        self._at = end + len(_END)
        return bytes(memoryview(self._buffer)[begin:end])

    def _line(self) -> Generator[None, None, bytes]:
        looked = 0
        while (end := self._buffer.find(_END, self._at + looked)) < 0:
            looked = max(0, len(self._buffer) - self._at - 1)
            if looked > _LONGEST_LINE:
                message = "Redis answered with a line that does not end"
                raise ValueError(message)
            yield
        line = bytes(self._buffer[self._at : end])
        self._at = end + len(_END)
        return line
