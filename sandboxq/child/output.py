"""What a job prints and logs, line by line, to the coordinator.

print, sys.stderr ─► LineWriter ─┐            ┌─► pipe of fd 1, each line marked: processes
logging ───────────► LogLines ───┴─► Capture ─┴─► LINE frames, under the job's number: all others
C code, subprocesses ─► fd 1, 2 ──► two pipes that the coordinator reads itself
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import stat
import sys
import termios
import time
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from sandboxq.child.frames import LINE, LOGGING, MARK, STDERR, STDOUT, TEXT
from sandboxq.child.streams import stand_ins
from sandboxq.model.job_limits import DEFAULT_BUDGETS

if TYPE_CHECKING:
    from contextvars import Token

    from sandboxq.child.link import Link

# More than anyone reads; a flood above it costs the coordinator and Redis nothing. The coordinator
# counts a long line as one for each KB.
LINES_LIMIT = DEFAULT_BUDGETS.lines
# A line of a dashboard; longer ones are cut into several.
LINE_SIZE = 16 * 1024

# A line that is not whole is shown when it is flushed, and then at most so often: a progress bar is
# flushed a thousand times, and so is a dot for each step.
_FLUSH_SECONDS = 0.5


def too_many_lines(limit: int) -> str:
    """Return the line that says that there were more than ``limit``."""
    return f"… more than {limit} lines or KB: the rest is not kept"


_NOBODY = 0  # the call that text belongs to which no job writes
_running: ContextVar[int] = ContextVar("sandboxq_running", default=_NOBODY)
# How often this process was forked: to ask for its number would be a system call a print.
_forks = 0


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - of the process
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


def running_call() -> int:
    """Return the call that this asyncio task belongs to; 0 outside a job."""
    return _running.get()


def enter_call(seq: int) -> Token[int]:
    """Have what is done from now on, in this context, belong to the call ``seq``."""
    return _running.set(seq)


def leave_call(before: Token[int]) -> None:
    """Undo that."""
    _running.reset(before)


class Capture:
    """Gathers text into lines, for each running job on its own."""

    def __init__(self, link: Link) -> None:
        """Send lines over ``link``."""
        self._link = link
        self._pipe = -1
        self._forks = _forks
        self._mark = (0, 0, b"")  # the last one: its stream, its call, and itself
        self._partial: dict[tuple[int, int], str] = {}
        self._counts: dict[int, int] = {}
        self._flushed: dict[tuple[int, int], float] = {}  # when part of a line was shown last
        # Threads started by a job do not see its context variables: they count as the last begun.
        self._latest = _NOBODY
        self._tasks: set[int] = set()  # the calls that run as tasks
        link.reports.runs = self.runs

    def use_pipe(self) -> None:
        """Send lines through the pipe of fd 1 instead: a system call each, but not for who reads.

        By a descriptor of its own: a job may close fd 1, or put a file in its place.
        """
        self._pipe = os.dup(1)

    def begin(self, seq: int) -> None:
        """Attribute what this thread prints from now on to the call ``seq``."""
        self._latest = seq

    def begin_task(self, seq: int) -> None:
        """Attribute what this asyncio task prints from now on to the call ``seq``."""
        self._latest = seq
        self._tasks.add(seq)
        _running.set(seq)

    def runs(self, seq: int) -> bool:
        """Tell whether a call has begun and not ended."""
        return seq == self._latest or seq in self._tasks

    @property
    def has_text(self) -> bool:
        """Whether anything was written since the last end that wrote."""
        return bool(self._counts or self._partial)

    def end(self, seq: int) -> bool:
        """Send what has no newline yet, forget the call, and what was said since for none.

        Tell whether the call has written lines.
        """
        has_written = bool(self._counts or self._partial)
        if has_written:
            for stream in (STDOUT, STDERR, LOGGING):
                rest = self._partial.pop((stream, seq), "")
                if rest:
                    self._send_all(stream, seq, rest)
            has_written = self._counts.pop(seq, 0) > 0
            self._counts.pop(_NOBODY, None)
            for stream in (STDOUT, STDERR) if self._flushed else ():
                self._flushed.pop((stream, seq), None)
        if self._latest == seq:
            self._latest = _NOBODY
        if self._tasks:
            self._tasks.discard(seq)
        return has_written

    def write(self, stream: int, text: str) -> bool:
        """Take text; False in a process that the job forked, which has its own way out."""
        if self._forks != _forks:
            return False
        seq = self._writer()
        key = (stream, seq)
        whole, newline, rest = (self._partial.pop(key, "") + text).rpartition("\n")
        if newline:
            self._send_all(stream, seq, whole)
        if len(rest) >= LINE_SIZE:
            size = len(rest) // LINE_SIZE * LINE_SIZE
            self._send_all(stream, seq, rest[:size])
            rest = rest[size:]
        if rest:
            self._partial[key] = rest
        return True

    def flush(self, stream: int) -> bool:
        """Show what has no newline yet, as a line of its own; False in a process as above.

        Of text that is written over what stands in the line (carriage return), what is seen last.
        """
        if self._forks != _forks:
            return False
        key = (stream, self._writer())
        text, now = self._partial.get(key), time.monotonic()
        if text and now >= self._flushed.get(key, 0.0) + _FLUSH_SECONDS:
            del self._partial[key]
            self._flushed[key] = now
            self._send_all(*key, _last_seen(text))
        return True

    def _writer(self) -> int:
        """Return whose text it is: nobody's, when what writes was left by a job that is over."""
        seq = _running.get()
        if not seq:
            return self._latest
        return seq if seq in self._tasks else _NOBODY

    def resume(self) -> None:
        """Hear what was not to interrupt a line."""
        self._link.resume()

    def _send_all(self, stream: int, seq: int, text: str) -> None:
        """Send lines, as long as the job has not sent too many; long ones in pieces."""
        room = self._link.budgets.lines - self._counts.get(seq, 0)
        count = text.count("\n") + 1
        if count > room or len(text) > LINE_SIZE:
            pieces = _cut(text)
            count = len(pieces)
            text = "\n".join(self._fitting(pieces, room))
        self._counts[seq] = self._counts.get(seq, 0) + count
        if room < 0:
            return
        payload = text.encode("utf-8", "backslashreplace")
        if self._pipe >= 0 and seq not in self._link.logged:
            self._write_to_pipe(stream, seq, payload)
            return
        for line in payload.split(b"\n"):
            self._link.send(LINE, seq, line, detail=stream)

    def _fitting(self, pieces: list[str], room: int) -> list[str]:
        """Return as many as there is room for, and the one that says that there were more."""
        if len(pieces) <= room:
            return pieces
        return [*pieces[: max(room, 0)], too_many_lines(self._link.budgets.lines)]

    def _write_to_pipe(self, stream: int, seq: int, payload: bytes) -> None:
        link = self._link
        link.has_spoken = True
        of_stream, of_call, mark = self._mark
        if of_stream != stream or of_call != seq:
            mark = b"%b%d%d%b" % (MARK, stream, seq, TEXT)
            self._mark = stream, seq, mark
        data = mark + payload.replace(b"\n", b"\n" + mark) + b"\n"
        try:
            with link.lock:
                done = _insist(self._pipe, data)
                while done < len(data):
                    done += _insist(self._pipe, memoryview(data)[done:])
        except BrokenPipeError:
            link.leave()


def _insist(fd: int, data: bytes | memoryview) -> int:
    """Write some of it; wait for room where a program that shares the pipe made it refuse."""
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            room = select.poll()
            room.register(fd, select.POLLOUT)
            room.poll()


def _cut(text: str) -> list[str]:
    """Return the lines of a text in pieces of LINE_SIZE."""
    return [
        line[start : start + LINE_SIZE]
        for line in text.split("\n")
        for start in range(0, len(line) or 1, LINE_SIZE)
    ]


def _last_seen(text: str) -> str:
    """Return what a terminal would show of a line that was written several times."""
    return next((part for part in reversed(text.split("\r")) if part), "")


def install(capture: Capture) -> None:
    """Put the writers in place of the standard streams, and the handler where none is set."""
    old = (sys.stdout, sys.stderr)
    with suppress(AttributeError):  # where there is none
        sys.__stdout__.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # as above
    sys.stdout, sys.stderr, logging.lastResort = stand_ins(capture)
    # Handlers made at import hold the streams of that time.
    for handler in logging.root.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream in old:
            handler.setStream(sys.stdout if handler.stream is old[0] else sys.stderr)
    if not logging.root.handlers and logging.root.level == logging.WARNING:
        logging.root.setLevel(logging.INFO)


# How much fd 1 and 2 hold.
_counts = bytearray(8)
_of_stdout, _of_stderr = memoryview(_counts)[:4], memoryview(_counts)[4:]
_NONE = bytes(8)
_ioctl = fcntl.ioctl
_question = 0


def note_kind() -> None:
    """Find out what fd 1 and 2 are to be asked: a pipe what is in it, a socket what was not read.

    Once: an ioctl that fails takes as long as all else that ends a job.
    """
    global _question  # noqa: PLW0603 - they are those of the process
    _question = termios.TIOCOUTQ if stat.S_ISSOCK(os.fstat(1).st_mode) else termios.FIONREAD


def has_unread_output() -> bool:
    """Tell whether the pipes of fd 1 and 2 hold text that the coordinator has not read."""
    try:
        _ioctl(1, _question, _of_stdout)
        _ioctl(2, _question, _of_stderr)
    except OSError:  # one was closed, or something else put in its place
        return _holds_text(1) or _holds_text(2)
    return _counts != _NONE


def _holds_text(fd: int) -> bool:
    with suppress(OSError):
        _ioctl(fd, _question, _of_stdout)
        return any(_of_stdout)
    return False
