"""The output of a running worker to its terminal or log: queued, and written by a thread.

events, log records ─► logs.Format ──┐
progress line ───────────────────────┼─► bytes ─► stderr (stdout)
print, warnings, tracebacks ─────────┘

No write happens on the event loop. A reader that is slow, blocked or gone, or a full disk, costs
lines; how many is written as soon as writing works again.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import shutil
import sys
import threading
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.cli import logs
from sandboxq.observe.log import (
    MOST_FOR_JOBS,
    OVERHEAD,
    Gap,
    LogQueue,
    QueueingHandler,
    current_queue,
    size_of,
)
from sandboxq.observe.telemetry import JobLines
from sandboxq.payload.printable import printable_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from sandboxq.observe.telemetry import Event

STDOUT, STDERR = 1, 2
# A terminal or pipe takes so much at once.
_PIECE = 64 * 1024
_REDRAW = object()
_ERASE = "\r\x1b[K"
# Loggers that are used on the loop: ours and asyncio's.
_LOGGERS = ("sandboxq", "asyncio")


class _Text(NamedTuple):
    """What was printed in this process, as it is."""

    fileno: int
    text: str


class _Descriptor:
    """A descriptor of our own: descriptor 2 may be closed and be another file later."""

    def __init__(self, fileno: int) -> None:
        self._fileno = os.dup(fileno)
        self._is_torn = False
        self.lost = 0  # lines that could not be written, since the last that could

    def write(self, data: bytes) -> None:
        """Write all of it, and wait for the reader; what cannot be written is counted."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._write_piece(view[:_PIECE]) :]
        except OSError:  # the reader is gone, or the disk is full
            done = len(data) - len(view)
            self._is_torn = self._is_torn if not done else data[done - 1] != ord("\n")
            self.lost += bytes(view).count(b"\n") or 1
        else:
            self._is_torn = not data.endswith(b"\n")

    def tell_lost(self, note: bytes) -> bool:
        """Write how much was lost; False when that cannot be written either."""
        lost = self.lost
        self.write(b"\n" + note if self._is_torn else note)
        if self.lost > lost:
            self.lost = lost
            return False
        self.lost = 0
        return True

    def _write_piece(self, piece: memoryview) -> int:
        while True:
            try:
                return os.write(self._fileno, piece)
            except BlockingIOError:  # somebody who shares it has made it non-blocking
                room = select.poll()
                room.register(self._fileno, select.POLLOUT)
                room.poll()

    def has_room(self) -> bool:
        """Tell whether something can be written: a file always, a pipe unless it is full."""
        room = select.poll()
        room.register(self._fileno, select.POLLOUT)
        return bool(room.poll(0))

    def close(self) -> None:
        """Give back the descriptor."""
        os.close(self._fileno)


class Output:
    """Formats and writes in a thread of its own; ``put`` and the others return at once."""

    def __init__(
        self, log_format: str = logs.TEXT, *, fileno: int = STDERR, names_queues: bool = False
    ) -> None:
        """Write log lines and the progress line to ``fileno``; each line may name its queue."""
        self._format = logs.Format(log_format, names_queues=names_queues)
        self._said: Event | None = None
        self._fileno = fileno
        self._ways = {number: _Descriptor(number) for number in (STDOUT, STDERR)}
        self._status = ""
        self._is_drawn = False
        self._queue = LogQueue(self._write)
        is_terminal = os.isatty(fileno) and os.environ.get("TERM", "dumb") != "dumb"
        self.has_progress = is_terminal and log_format == logs.TEXT

    # ── from any thread ─────────────────────────────────────────────────────

    def teller(self, queue: str) -> Callable[[Event], None]:
        """Return what logs the events of a worker of this queue."""
        return partial(self._tell, queue)

    def _tell(self, queue: str, event: Event) -> None:
        if isinstance(event, JobLines):
            size = sum(map(len, event.lines)) + OVERHEAD // 4 * len(event.lines)
            item = (time.time(), event, queue)
            self._queue.put(item, size, lines=len(event.lines), most=MOST_FOR_JOBS)
        elif event is not self._said:  # all workers of a group are told of the same Redis
            self._said = event
            self._queue.put((time.time(), event, queue), logs.size_of_event(event))

    def log(self, record: logging.LogRecord) -> None:
        """Log a record."""
        record.queue = current_queue.get()
        self._queue.put(record, size_of(record))

    def say(self, text: str, fileno: int | None = None) -> None:
        """Write text as it is, with its newlines."""
        self._queue.put(_Text(self._fileno if fileno is None else fileno, text), len(text))

    def show(self, status: str) -> None:
        """Keep ``status`` as the last line of the terminal; empty: no such line."""
        self._status = status
        if self._queue.is_empty():  # else what is written next draws it
            self._queue.put(_REDRAW, 0)

    def flush(self) -> bool:
        """Wait for a bounded time until all is written; False when it was not."""
        return self._queue.flush(lambda: all(way.has_room() for way in self._ways.values()))

    @contextlib.contextmanager
    def in_charge(self) -> Iterator[None]:
        """Take over everything that this process prints or logs while the block runs."""
        with contextlib.ExitStack() as former:
            former.callback(self._finish)
            for name in _LOGGERS:
                former.enter_context(_handled_by(self, logging.getLogger(name)))
            former.enter_context(_replaced(logging, "lastResort", QueueingHandler(self.log)))
            former.enter_context(_replaced(sys, "stdout", PrintedText(self, STDOUT)))
            former.enter_context(_replaced(sys, "stderr", PrintedText(self, STDERR)))
            former.enter_context(_replaced(sys, "unraisablehook", _log_unraisable))
            former.enter_context(_replaced(warnings, "showwarning", _log_warning))
            yield

    def _finish(self) -> None:
        self.show("")
        if self.flush():  # else the thread may be in the middle of a write
            for way in self._ways.values():
                way.close()

    # ── in the writer thread ────────────────────────────────────────────────

    def _write(self, items: list[Any]) -> bool:
        """Write a batch; True when lost lines are still to be told."""
        for number, way in self._ways.items():
            if way.lost and not self._tell_lost(way):
                way.lost += sum(_lines(each) for each in items if self._way_of(each) == number)
                items = [each for each in items if self._way_of(each) != number]
        written: dict[int, list[str]] = {}
        for item in items:
            if item is not _REDRAW:
                written.setdefault(self._way_of(item), []).append(self._text_of(item))
        for number, texts in written.items():
            self._send(number, "".join(texts))
        if not written:
            self._send(self._fileno, "")
        return any(way.lost for way in self._ways.values())

    def _tell_lost(self, way: _Descriptor) -> bool:
        note = self._format.dropped(way.lost, "they could not be written")
        return way.tell_lost(note.encode("utf-8", "backslashreplace"))

    def _send(self, number: int, text: str) -> None:
        if self.has_progress:
            text = self._with_status(text)
        if text:
            self._ways[number].write(text.encode("utf-8", "backslashreplace"))

    def _with_status(self, text: str) -> str:
        """Return the text between erasing the progress line and drawing it anew."""
        before = _ERASE if self._is_drawn else ""
        status = self._status if text.endswith("\n") or not text else ""
        self._is_drawn = bool(status)
        if not status:
            return before + text
        width = shutil.get_terminal_size().columns
        return f"{before}{text}\x1b[1m{printable_line(status)[: width - 1]}\x1b[0m"

    def _way_of(self, item: Any) -> int:
        return item.fileno if isinstance(item, _Text) else self._fileno

    def _text_of(self, item: Any) -> str:
        if isinstance(item, Gap):
            return self._format.dropped(item.count, "more came than could be written")
        try:
            if isinstance(item, logging.LogRecord):
                return self._format.record(item)
            if isinstance(item, _Text):
                return self._format.printed(item.text) if item.fileno == STDERR else item.text
            return self._format.event(*item)
        except Exception as error:  # noqa: BLE001 - one line that cannot be shown is no reason to end
            return self._format.dropped(1, f"it cannot be shown: {type(error).__name__}")


class PrintedText(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr`` while an Output is in charge."""

    def __init__(self, output: Output, fileno: int) -> None:
        """Pass whole lines on to ``output``, and on ``flush`` also what has no newline yet."""
        self._output = output
        self._fileno = fileno
        self._abandoned = sys.stdout if fileno == STDOUT else sys.stderr
        self._partial = ""
        self._changing = threading.RLock()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What happens to a lone surrogate."""
        return "backslashreplace"

    @property
    def buffer(self) -> Any:
        """The stream of bytes, which does not go through the queue."""
        return self._abandoned.buffer

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fileno

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return os.isatty(self._fileno)

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, text: str) -> int:
        """Queue the whole lines of it."""
        with self._changing:
            lines, newline, rest = (self._partial + text).rpartition("\n")
            self._partial = rest
        if newline:
            self._output.say(lines + newline, self._fileno)
        return len(text)

    def flush(self) -> None:
        """Queue what has no newline yet."""
        with self._changing:
            rest, self._partial = self._partial, ""
        if rest:
            self._output.say(rest, self._fileno)


@contextlib.contextmanager
def _handled_by(output: Output, logger: logging.Logger) -> Iterator[None]:
    former = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [QueueingHandler(output.log)], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = former[:2]
        logger.setLevel(former[2])


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    former = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, former)
        if isinstance(value, PrintedText):
            value.flush()


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any
) -> None:
    """Log a warning without its line of source: reading that is opening a file."""
    text = f"{filename}:{lineno}: {category.__name__}: {message}"
    logging.getLogger("sandboxq.cli").warning("%s", text)


def _log_unraisable(found: Any) -> None:
    """Log an exception that nobody could catch; its traceback is made in the writer thread."""
    what = found.err_msg or "an exception was ignored"
    kind: type[BaseException] = found.exc_type
    trace: TracebackType | None = found.exc_traceback
    logging.getLogger("sandboxq.cli").error(
        "%s in %s", what, _name(found.object), exc_info=(kind, found.exc_value or kind(), trace)
    )


def _lines(item: Any) -> int:
    if isinstance(item, Gap):
        return item.count
    if isinstance(item, tuple) and isinstance(item[1], JobLines):
        return len(item[1].lines)
    return int(item is not _REDRAW)


def _name(thing: object) -> str:
    return getattr(thing, "__qualname__", None) or type(thing).__name__
