"""What a process writes to fd 1 or 2, read in bounded pieces and cut into lines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from sandboxq.child.cancels import open_socket_pipe
from sandboxq.child.frames import MARK
from sandboxq.child.output import LINE_SIZE

if TYPE_CHECKING:
    import asyncio

# One read for one process before the others have their turn; also what a pipe holds.
_PIECE = 64 * 1024
# Lines for one process before the others have their turn.
_LINES_A_TURN = 512
# Of pieces in which streams or jobs take turns: each turn is told for itself, as if it were a line.
_MIXED_LINES_A_TURN = 64
# Once nobody wants the lines: 64 MB/s are read and dropped, which costs 3 % of a core.
_PAUSE = 0.001
# Text that comes so soon after other text is a flood, of which a pipe holds a thousand lines: they
# are left to gather, or who prints would wake us for each.
_SOON = 0.008
_GATHER = 0.004
# What a pipe of any kind holds, in pieces, when its process has said its last.
_PIECES_AT_ONCE = 8
# A marked line is never cut: its mark, and LINE_SIZE characters of four bytes.
_LONGEST = 4 * LINE_SIZE + 64


class Reader(Protocol):
    """Who hears the lines of a pipe."""

    def on_text(self) -> None:
        """Hear that there is text, which is read next."""

    def wants_lines(self) -> bool:
        """Tell whether lines are still wanted, or only to be dropped."""

    def on_piped_lines(self, stream: str, lines: list[bytes]) -> bool:
        """Take lines, without their newlines; tell whether they were all of one kind."""


class OutputPipe:
    """One pipe. Its reader decides whose the lines are."""

    __slots__ = (
        "_a_turn",
        "_buffer",
        "_far",
        "_loop",
        "_near",
        "_read_at",
        "_reader",
        "_timer",
        "stream",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, reader: Reader, stream: str, *, is_socket: bool
    ) -> None:
        """Open a pipe and watch it; ``far_fileno`` is for the process.

        Both ends of a pipe have one lock, and sendfile(2) to one end holds it while it waits: who
        reads the other end waits too. A socket in place of it is for processes that would do so.
        """
        self._loop = loop
        self._reader = reader
        self.stream = stream
        self._near, self._far = open_socket_pipe() if is_socket else os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._near, False)
        self._buffer = b""
        self._read_at = 0.0
        self._a_turn = _LINES_A_TURN
        self._timer: asyncio.Handle | None = None
        loop.add_reader(self._near, self._on_readable)

    def far_fileno(self) -> int:
        """Return the descriptor that the process writes to."""
        return self._far

    def close_far(self) -> None:
        """Close our copy of the process's end, once the process has its own."""
        if self._far >= 0:
            os.close(self._far)
            self._far = -1

    def drain(self) -> None:
        """Pass on what is there now, whole lines or not."""
        if self._near < 0:
            return
        for _ in range(_PIECES_AT_ONCE):
            before = len(self._buffer)
            self._read()
            is_all = len(self._buffer) < before + _PIECE
            while b"\n" in self._buffer:
                self._pass_on()
            if is_all:
                break
        if not self._buffer.startswith(MARK):  # half a marked line: the rest of it comes
            self._flush()

    def is_behind(self) -> bool:
        """Tell whether text was read that was not passed on."""
        return bool(self._buffer)

    def close(self) -> None:
        """Stop reading; twice is harmless."""
        self.close_far()
        if self._near < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._near)
        os.close(self._near)
        self._near = -1

    def _on_readable(self) -> None:
        self._reader.on_text()
        before, self._read_at = self._read_at, self._loop.time()
        is_open = self._read()
        is_much = len(self._buffer) > _PIECE // 4
        self._pass_on()
        if not is_open:
            self._flush()
            self._loop.remove_reader(self._near)
        elif b"\n" in self._buffer or not self._reader.wants_lines():
            self._wait(_PAUSE)
        elif self._read_at - before < _SOON:
            self._wait(_PAUSE if is_much else _GATHER)

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._near)
        self._timer = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._pass_on()
        if b"\n" in self._buffer:
            self._timer = self._loop.call_later(_PAUSE, self._resume)
        else:
            self._loop.add_reader(self._near, self._on_readable)

    def _read(self) -> bool:
        """Read one piece; False at the end of the file."""
        try:
            piece = os.read(self._near, _PIECE)
        except BlockingIOError:
            return True
        self._buffer += piece
        return bool(piece)

    def _pass_on(self) -> None:
        if not self._reader.wants_lines():
            self._drop_unmarked()
        *lines, rest = self._buffer.split(b"\n", self._a_turn)
        if lines:
            is_plain = self._reader.on_piped_lines(self.stream, lines)
            self._a_turn = _LINES_A_TURN if is_plain else _MIXED_LINES_A_TURN
        if b"\n" not in rest and len(rest) >= _LONGEST:
            self._reader.on_piped_lines(self.stream, [rest])
            rest = b""
        self._buffer = rest

    def _drop_unmarked(self) -> None:
        """Drop what is of nobody in particular; marked lines may be those of the next call."""
        if not self._buffer.startswith(MARK):
            start = self._buffer.find(b"\n" + MARK)
            self._buffer = self._buffer[start + 1 :] if start >= 0 else b""

    def _flush(self) -> None:
        if self._buffer:
            self._reader.on_piped_lines(self.stream, [self._buffer])
            self._buffer = b""
