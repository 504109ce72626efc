"""What a child writes to fd 1 or 2: read in bounded pieces, cut into lines, given to its call."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from sandboxq.child.cancels import open_socket_pipe
from sandboxq.child.frames import MARK, STREAMS, TEXT
from sandboxq.child.output import LINE_SIZE, too_many_lines

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from sandboxq.pool.calls import Call
    from sandboxq.pool.options import ChildOwner, PoolOptions
    from sandboxq.pool.transport.channel import Packets

# Enough for the stacks that faulthandler writes at a crash.
_STDERR_TAIL = 64
# A line counts as one for each so many characters.
_LONG_LINE = 1024
# Any code can write such a mark, or text that looks like one.
_mark = re.compile(re.escape(MARK) + rb"([0-2])([0-9]{1,19})").fullmatch

# Bytes of one process before the others have their turn; also the size of a pipe.
_PIECE = 64 * 1024
# Lines for one process before the others have their turn.
_LINES_A_TURN = 512
# Of pieces in which streams or jobs take turns: each turn is told for itself, as if it were a line.
_MIXED_LINES_A_TURN = 64
# Once lines are over the limit: 64 MB/s are read and dropped, which costs 3 % of a core.
_PAUSE = 0.001
# Text that comes so soon after other text is a flood, of which a pipe holds a thousand lines: they
# are left to gather, or who prints would wake us for each.
_SOON = 0.008
_GATHER = 0.004
# What a pipe of any kind holds, in pieces, when its process has said its last.
_PIECES_AT_ONCE = 8
# A marked line is never cut: its mark, and LINE_SIZE characters of four bytes.
_LONGEST = 4 * LINE_SIZE + 64


class Printer(Protocol):
    """A child, as far as OutputPipe and Lines need it."""

    flying: Mapping[int, Call]
    is_async: bool
    packets: Packets

    def latest(self) -> int:
        """Return the number of the call that it began last."""

    def read(self) -> None:
        """Read what it has sent."""

    def running_call(self) -> Call | None:
        """Return the call that it runs."""

    def has_begun(self, call: Call) -> bool:
        """Tell whether it has begun a call."""


P = TypeVar("P", bound=Printer)


class Lines(Generic[P]):
    """The two pipes of a child, and the counts of lines."""

    __slots__ = ("_child", "_most", "_owner", "_stderr", "_stdout", "_tail", "_writer", "unclaimed")

    def __init__(
        self, child: P, owner: ChildOwner[P], loop: asyncio.AbstractEventLoop, terms: PoolOptions
    ) -> None:
        """Open the pipes; ``owner`` hears the lines."""
        self._child = child
        self._owner = owner
        self._most = terms.budgets.lines
        self._tail: list[str] = []
        self._writer = 0  # the call that the text in the pipes is of, while it is known
        self.unclaimed = 0  # lines of no call since the last answer
        with ExitStack() as opened:  # closes what there is when descriptors run out
            self._stdout = OutputPipe(loop, self, "stdout", is_socket=terms.is_strict)
            opened.callback(self._stdout.close)
            self._stderr = OutputPipe(loop, self, "stderr", is_socket=terms.is_strict)
            opened.pop_all()

    def far_filenos(self) -> list[int]:
        """Return the descriptors that the process writes to: stdout, stderr."""
        return [self._stdout.far_fileno(), self._stderr.far_fileno()]

    def close_far(self) -> None:
        """Close our copies of those, so that the pipes end with the process."""
        self._stdout.close_far()
        self._stderr.close_far()

    def drain(self, seq: int = 0) -> None:
        """Pass on what the process has written until now; ``seq`` has written it, if given."""
        self._writer = seq
        self._stdout.drain()
        self._stderr.drain()

    def stderr_tail(self) -> str:
        """Return the last lines that the process wrote to fd 2."""
        return "\n".join(self._tail)

    def on_text(self) -> None:
        """Find out whose the text is: not that of calls whose answers were not read yet."""
        if self._child.packets.last and not self._child.is_async:
            latest = self._child.latest()
            self._child.read()  # of answers that announce text, which is then read for them
            self._writer = latest

    def wants_lines(self) -> bool:
        """Tell whether lines of the pipes are still kept; after the limit a call's are dropped."""
        call = self._call()
        return (call.lines if call else self.unclaimed) <= self._most

    def is_behind(self) -> bool:
        """Tell whether lines were read that were not passed on."""
        return bool(self._stdout.text or self._stderr.text)

    def on_piped_lines(self, stream: str, lines: list[bytes]) -> bool:
        """Take lines from fd 1 or 2; marked ones say whose and of which stream they are.

        Tell whether that was the same for all: others take longer.
        """
        first = lines[0]
        head = first[: first.find(TEXT) + 1] if first[:1] == MARK else b""
        text = b"\n".join(lines)
        if head and text.count(b"\n" + head) == len(lines) - 1:  # as nearly always: one job's
            self._take_marked(head[:-1], stream, text[len(head) :].replace(b"\n" + head, b"\n"))
            return True
        self._take_mixed(stream, lines)
        return not head

    def _take_mixed(self, stream: str, lines: list[bytes]) -> None:
        last = b""
        texts: list[bytes] = []
        for line in lines:
            mark, text = b"", line
            if line[:1] == MARK:
                mark, _, text = line.partition(TEXT)
            if mark != last:
                if texts:
                    self._take_marked(last, stream, b"\n".join(texts))
                last, texts = mark, []
            texts.append(text)
        self._take_marked(last, stream, b"\n".join(texts))

    def _take_marked(self, mark: bytes, stream: str, text: bytes) -> None:
        """Take lines that have the same mark; without a mark they are those of whoever runs."""
        texts = text.decode("utf-8", "replace").split("\n")
        known = _mark(mark)
        if known is not None:
            stream = STREAMS[int(known[1])]
            call = self._child.flying.get(int(known[2]))
        else:
            call = self._call()
            if stream == "stderr":
                self._tail = [*self._tail, *texts][-_STDERR_TAIL:]
        self.take(call, stream, texts)

    def take(self, call: Call | None, stream: str, lines: list[str]) -> None:
        """Count lines, and pass them on unless there were too many."""
        weight = len(lines)
        if max(map(len, lines)) >= _LONG_LINE:
            lines = _cut(lines)
            weight = sum(map(_weight, lines))
        if call is None:
            before, self.unclaimed = self.unclaimed, self.unclaimed + weight
        else:
            before, call.lines = call.lines, call.lines + weight
        if before > self._most:
            return
        if before + weight > self._most:
            lines = _fitting(lines, self._most - before, self._most)
        self._owner.on_lines(self._child, call, stream, lines)

    def close(self) -> None:
        """Stop reading; twice is harmless."""
        self._stdout.close()
        self._stderr.close()

    def forget(self) -> None:
        """Forget what belongs to jobs that are over: another job has ended."""
        self.unclaimed = 0
        self._tail = []

    def _call(self) -> Call | None:
        """Return whose the text is: a call that the child has not begun has written nothing."""
        call = self._child.flying.get(self._writer) or self._child.running_call()
        return call if call is not None and self._child.has_begun(call) else None


def _weight(line: str) -> int:
    return 1 + len(line) // _LONG_LINE


def _cut(lines: list[str]) -> list[str]:
    """Return the lines in pieces that a dashboard can show."""
    return [
        line[start : start + LINE_SIZE]
        for line in lines
        for start in range(0, len(line) or 1, LINE_SIZE)
    ]


def _fitting(lines: list[str], room: int, most: int) -> list[str]:
    """Return as many lines as there is room for, and the one that says that there were more."""
    kept = []
    for line in lines:
        room -= _weight(line)
        if room < 0:
            break
        kept.append(line)
    return [*kept, too_many_lines(most)]


class Reader(Protocol):
    """Hears the lines of a pipe."""

    def on_text(self) -> None:
        """Prepare for text that is read next."""

    def wants_lines(self) -> bool:
        """Tell whether lines are still wanted, or only to be dropped."""

    def on_piped_lines(self, stream: str, lines: list[bytes]) -> bool:
        """Take lines, without their newlines; tell whether they were all of one kind."""


class OutputPipe:
    """One pipe. Its reader decides whose the lines are."""

    __slots__ = (
        "_a_turn",
        "_far",
        "_loop",
        "_near",
        "_read_at",
        "_reader",
        "_timer",
        "stream",
        "text",
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
        self.text = b""  # that was read and not passed on
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
            before = len(self.text)
            self._read()
            is_all = len(self.text) < before + _PIECE
            while b"\n" in self.text:
                self._pass_on()
            if is_all:
                break
        if not self.text.startswith(MARK):  # half a marked line: the rest of it comes
            self._flush()

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
        is_much = len(self.text) > _PIECE // 4
        self._pass_on()
        if not is_open:
            self._flush()
            self._loop.remove_reader(self._near)
        elif b"\n" in self.text or not self._reader.wants_lines():
            self._wait(_PAUSE)
        elif self._read_at - before < _SOON:
            self._wait(_PAUSE if is_much else _GATHER)

    def _wait(self, seconds: float) -> None:
        self._loop.remove_reader(self._near)
        self._timer = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self._pass_on()
        if b"\n" in self.text:
            self._timer = self._loop.call_later(_PAUSE, self._resume)
        else:
            self._loop.add_reader(self._near, self._on_readable)

    def _read(self) -> bool:
        """Read one piece; False at the end of the file."""
        try:
            piece = os.read(self._near, _PIECE)
        except BlockingIOError:
            return True
        self.text += piece
        return bool(piece)

    def _pass_on(self) -> None:
        if not self._reader.wants_lines():
            self._drop_unmarked()
        *lines, rest = self.text.split(b"\n", self._a_turn)
        if lines:
            is_plain = self._reader.on_piped_lines(self.stream, lines)
            self._a_turn = _LINES_A_TURN if is_plain else _MIXED_LINES_A_TURN
        if b"\n" not in rest and len(rest) >= _LONGEST:
            self._reader.on_piped_lines(self.stream, [rest])
            rest = b""
        self.text = rest

    def _drop_unmarked(self) -> None:
        """Drop what is of nobody in particular; marked lines may be those of the next call."""
        if not self.text.startswith(MARK):
            start = self.text.find(b"\n" + MARK)
            self.text = self.text[start + 1 :] if start >= 0 else b""

    def _flush(self) -> None:
        if self.text:
            self._reader.on_piped_lines(self.stream, [self.text])
            self.text = b""
