"""A bounded queue of log lines and the one thread that writes them.

event loop, threads ─put─► queue ─► writer thread ─► descriptor, or the user's logging handlers

Whoever logs never waits: a line that finds no room is dropped and counted, and a ``Gap`` in its
place says so later. Nothing here takes a lock that could be held while something is written.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Characters that wait to be written; a line counts some more for the objects around it.
MOST_CHARACTERS = 16 << 20
OVERHEAD = 250
# What jobs print may take so much of it: then there is room for what the worker says.
MOST_FOR_JOBS = MOST_CHARACTERS * 3 // 4
# What is written at once.
_BATCH_ITEMS = 2000
_BATCH_CHARACTERS = 512 * 1024
# In a flood the thread lets lines gather: woken for each of them, it would take the interpreter
# from the loop tens of thousands of times a second.
_FLOOD = 32
_GATHER_SECONDS = 0.01
# While lines were lost, the writer is called so often without new ones, to say it.
_RETRY_SECONDS = 0.5
# At the end: how long a reader may be asleep, and how long all of it may take: a busy disk was seen
# to block a write for more than a second.
FLUSH_PATIENCE = 1.0
FLUSH_SECONDS = 10.0


class Gap:
    """Stands for lines that found no room."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        """Count the lines."""
        self.count = count


class LogQueue:
    """Takes items from anywhere, and gives them to ``write`` in a thread of its own."""

    def __init__(self, write: Callable[[list[Any]], bool]) -> None:
        """``write`` gets items and Gaps; True says that it wants to be called again soon."""
        self._write = write
        self._items: queue.SimpleQueue[tuple[Any, int]] = queue.SimpleQueue()
        # Reentrant: a finalizer that logs may run in the middle of put().
        self._counting = threading.RLock()
        self._size = 0
        self._pending = 0
        self._gap: Gap | None = None
        self._thread: threading.Thread | None = None

    def put(self, item: object, size: int, *, lines: int = 1, most: int = MOST_CHARACTERS) -> None:
        """Queue an item of about ``size`` characters, unless more than ``most`` wait already."""
        size += OVERHEAD
        with self._counting:
            if self._size + size > most and self._pending:
                if self._gap is not None:
                    self._gap.count += lines
                    return
                self._gap = item = Gap(lines)
                size = 0
            elif self._gap is not None:
                self._gap = None
            self._size += size
            self._pending += 1
        self._items.put((item, size))
        if self._thread is None:
            self._start()

    def is_empty(self) -> bool:
        """Tell whether all is written."""
        return not self._pending

    def is_writer(self) -> bool:
        """Tell whether this is the writer thread."""
        return threading.current_thread() is self._thread

    def flush(self, is_read: Callable[[], bool] = lambda: True) -> bool:
        """Wait until all is written, FLUSH_SECONDS in all; False when it was not.

        Gives up when nothing has moved for FLUSH_PATIENCE and ``is_read`` says that nobody reads.
        """
        began = moved_at = time.monotonic()
        seen = self._pending
        while self._pending:
            now = time.monotonic()
            if self._pending < seen:
                moved_at = now
            seen = self._pending
            if now - began > FLUSH_SECONDS:
                return False
            if now - moved_at > FLUSH_PATIENCE and not is_read():
                return False
            time.sleep(0.002)
        return True

    def _start(self) -> None:
        with self._counting:
            if self._thread is not None:
                return
            # A daemon: one that is blocked in a write must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="sandboxq-log", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter ends, or has no room for a thread
            self._thread = None

    def _run(self) -> None:
        wants_retry = False
        while True:
            try:
                batch, size = self._next_batch(_RETRY_SECONDS if wants_retry else None)
            except queue.Empty:
                wants_retry = self._write([])
                continue
            wants_retry = self._write(batch)
            with self._counting:
                self._size -= size
                self._pending -= len(batch)
            if len(batch) > _FLOOD:
                time.sleep(_GATHER_SECONDS)

    def _next_batch(self, timeout: float | None) -> tuple[list[Any], int]:
        item, size = self._items.get(timeout=timeout)
        batch = [item]
        while len(batch) < _BATCH_ITEMS and size < _BATCH_CHARACTERS:
            try:
                item, more = self._items.get_nowait()
            except queue.Empty:
                break
            batch.append(item)
            size += more
        with self._counting:
            if self._gap is not None and self._gap in batch:
                self._gap = None  # what is dropped from now on is another gap
        return batch, size


class QueueingHandler(logging.Handler):
    """Passes records to what only queues them: what has it need not be deferred."""

    def __init__(self, put: Callable[[logging.LogRecord], None]) -> None:
        """Call ``put`` with each record, on whatever thread it is logged."""
        super().__init__()
        self._put = put

    def emit(self, record: logging.LogRecord) -> None:
        """Queue it."""
        self._put(record)


class _Deferral(logging.Filter):
    """Has the records that a thread with an event loop logs handled in the writer thread."""

    def __init__(self) -> None:
        super().__init__()
        self._queue = LogQueue(_handle)

    def filter(self, record: logging.LogRecord) -> bool:
        # Where no loop runs nobody is made to wait, and order with other output is kept.
        if asyncio._get_running_loop() is None or self._queue.is_writer():  # noqa: SLF001 - its public twin raises
            return True
        self._queue.put(record, size_of(record))
        return False

    def flush(self) -> None:
        self._queue.flush()


_deferral: _Deferral | None = None


def defer_logging() -> None:
    """Have what sandboxq logs on an event loop reach the program's handlers in a thread.

    A handler may write to a pipe that nobody reads, or open source files for a traceback: on the
    loop that would stop the renewal of locks. The order of the records stays.
    """
    global _deferral  # noqa: PLW0603 - loggers belong to the process
    handlers = logging.getLogger("sandboxq").handlers
    if any(isinstance(each, QueueingHandler) for each in handlers):
        return
    if _deferral is None:
        _deferral = _Deferral()
        atexit.register(flush)
    for name in list(logging.root.manager.loggerDict):
        if name == "sandboxq" or name.startswith("sandboxq."):
            logging.getLogger(name).addFilter(_deferral)


def flush() -> None:
    """Wait a moment until the program's handlers have what was deferred."""
    if _deferral is not None:
        _deferral.flush()


def _forget() -> None:
    """In a fork the thread is gone, and what is queued is the parent's to write."""
    if _deferral is not None:
        _deferral._queue = LogQueue(_handle)  # noqa: SLF001 - of this module


os.register_at_fork(after_in_child=_forget)


def size_of(record: logging.LogRecord) -> int:
    """Return about how many characters a record holds."""
    args = record.args if isinstance(record.args, tuple) else ()
    return len(str(record.msg)) + sum(len(each) for each in args if isinstance(each, str))


def _handle(records: list[Any]) -> bool:
    for record in records:
        if isinstance(record, Gap):
            logging.getLogger("sandboxq.log").warning(
                "%d lines of the log were dropped: the handlers were too slow", record.count
            )
        else:
            # A handler of the user that raises costs its line, not the thread.
            with contextlib.suppress(Exception):
                logging.getLogger(record.name).handle(record)
    return False
