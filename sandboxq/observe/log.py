"""The log lines of a worker: their texts, and the queue and thread that write them.

event loop, threads ─put─► queue ─► writer thread ─► descriptor, or the user's logging handlers

Logging never waits: a line that finds no room is dropped and counted, and a ``Gap`` in its place
says so later. Nothing here takes a lock that could be held while something is written. The
worker's own log and the program's ``logging`` have the same texts.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import queue
import re
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sandboxq.observe.telemetry import (
    AttemptFailed,
    BrokerBack,
    BrokerLost,
    ChildDied,
    CircuitClosed,
    CircuitOpened,
    Event,
    JobLines,
    JobsStalled,
    LocksLost,
    LoopBlocked,
    OutcomesDropped,
    Telemetry,
)
from sandboxq.payload.printable import printable, with_frames

if TYPE_CHECKING:
    from collections.abc import Callable

# Characters that wait to be written; each line counts OVERHEAD more for the objects around it.
MOST_CHARACTERS = 16 << 20
OVERHEAD = 250
# The part that lines of jobs may take: the rest is for the worker's own.
MOST_FOR_JOBS = MOST_CHARACTERS * 3 // 4
# What is written at once.
_BATCH_ITEMS = 2000
_BATCH_CHARACTERS = 512 * 1024
# When many lines come the thread lets them gather: woken for each, it would take the interpreter
# from the loop tens of thousands of times a second.
_FLOOD = 32
_MOST_IDS = 100  # of jobs, named in one row
_GATHER_SECONDS = 0.01
# Seconds between calls of the writer without new lines, while a Gap is not written yet.
_RETRY_SECONDS = 0.5
# Seconds at the end: without progress, and in all. A busy disk was seen to block a write for more
# than a second.
FLUSH_PATIENCE = 1.0
FLUSH_SECONDS = 10.0

_INFO, _WARNING, _ERROR = "INFO", "WARNING", "ERROR"
# Level, name of the event, message, further fields.
Row = tuple[str, str, str, dict[str, Any]]
_log = logging.getLogger("sandboxq.worker.events")
# What jobs print, on level INFO.
_job_log = logging.getLogger("sandboxq.worker.jobs")
# The events that are logged; the rest is for counters.
SHOWN: tuple[type[Event], ...] = (
    AttemptFailed,
    BrokerBack,
    BrokerLost,
    ChildDied,
    CircuitClosed,
    CircuitOpened,
    JobLines,
    JobsStalled,
    LocksLost,
    LoopBlocked,
    OutcomesDropped,
)
# The trace of a W3C trace context, as it stands in a job's option ``tm``.
_TRACE_ID = re.compile(r'"traceparent":\s*"[0-9a-f]{2}-([0-9a-f]{32})-', re.ASCII)
# The queue of the running task. A worker in a group sets it at its start; tasks and callbacks of
# the loop inherit it.
current_queue: ContextVar[str] = ContextVar("sandboxq_current_queue", default="")


class Gap:
    """Stands for lines that found no room."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        """Count the lines."""
        self.count = count


class LogQueue:
    """Takes items from any thread, and gives them to ``write`` in a thread of its own."""

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
    """Passes records to a function that only queues them; its records need not be deferred."""

    def __init__(self, put: Callable[[logging.LogRecord], None]) -> None:
        """Call ``put`` with each record, on whatever thread it is logged."""
        super().__init__()
        self._put = put

    def emit(self, record: logging.LogRecord) -> None:
        """Queue it."""
        self._put(record)


class _Deferral(logging.Filter):
    """Hands records logged on a thread with an event loop to the writer thread."""

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
    """Begin anew in a forked process: the thread is gone, the queued lines are the parent's."""
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


def log_events(telemetry: Telemetry) -> bool:
    """Log a worker's events; False: the command logs them, by a writer of its own."""
    handlers = logging.getLogger("sandboxq").handlers
    if any(isinstance(handler, QueueingHandler) for handler in handlers):
        return False
    telemetry.subscribe(_log_event, *(kind for kind in SHOWN if kind is not JobLines))
    if _job_log.isEnabledFor(logging.INFO):
        telemetry.subscribe(_log_lines, JobLines)
    return True


def _log_event(event: Event) -> None:
    level, name, message, fields = row_from_event(event)
    if stack := with_frames(fields.get("stack", "")):
        message = f"{message}\n{stack}"
    # Indented, so that text of a job cannot pass for a line of the log.
    text = printable(message).replace("\n", "\n  ")
    _log.log(getattr(logging, level), "%s", text, extra={"fields": {"event": name, **fields}})


def _log_lines(event: Any) -> None:
    where = place_of_lines(event)
    fields = {"job_id": event.job_id, **fields_of_attempt(event)}
    for line in event.lines:
        _job_log.info("[%s] %s", where, printable(line), extra={"fields": fields})


def row_from_event(event: Event) -> Row:
    """Return level, event name, message and fields of an event that is SHOWN."""
    match event:
        case AttemptFailed():
            return _WARNING, "attempt-failed", *_failure(event)
        case _:
            return _children(event) or _trouble(event) or (_INFO, "event", str(event), {})


def _failure(event: AttemptFailed) -> tuple[str, dict[str, Any]]:
    """Return message and fields of a failed attempt; in text its trace follows the message."""
    what = f"{event.cause}: {event.reason}" if event.cause else event.reason
    message = (
        f"job {event.job_id} ({event.job_name}) of queue {event.queue!r} failed {event.next_step}, "
        f"attempt {event.attempt} of {event.attempts}, after {event.seconds:.3f} s: {what}"
    )
    names = ("job_id", "queue", "attempt", "attempts", "cause", "reason", "next_step", "seconds")
    fields = {name: getattr(event, name) for name in names} | fields_of_attempt(event)
    if "trace_id" in fields:
        message += f" (trace {fields['trace_id']})"
    return message, {"name": event.job_name, **fields, "stack": event.stack.rstrip()}


def fields_of_attempt(event: AttemptFailed | JobLines) -> dict[str, Any]:
    """Return which attempt a line is of and, where its job carries a trace, of which trace."""
    found = _TRACE_ID.search(event.trace) if event.trace else None
    trace = {"trace_id": found[1]} if found is not None else {}
    return {"attempt": event.attempt, **trace} if event.attempt else trace


def place_of_lines(event: JobLines) -> str:
    """Return whose lines these are: the job, a later attempt's number, its trace if it has one."""
    if not event.job_id:
        return f"child {event.child_pid}"
    fields = fields_of_attempt(event)
    attempt = f" attempt {event.attempt}" if event.attempt > 1 else ""
    trace = f" trace {fields['trace_id']}" if "trace_id" in fields else ""
    return f"job {event.job_id}{attempt}{trace}"


def _children(event: Event) -> Row | None:
    """Return the row of an event about children."""
    match event:
        case ChildDied(pid, reason):
            return _WARNING, "child-died", f"child {pid} ended: {reason}", {"child_pid": pid}
        case LoopBlocked(pid, job_id, seconds, waiting, stack):
            who = f"job {job_id}" if job_id else "no job's own code"
            message = (
                f"{who} blocks the event loop of child {pid} for {seconds:.1f} s, "
                f"{waiting} jobs wait for it: use await, or asyncio.to_thread"
            )
            fields = {"child_pid": pid, "job_id": job_id, "seconds": seconds, "waiting": waiting}
            return _WARNING, "loop-blocked", message, {**fields, "stack": stack}
        case CircuitOpened(reason, seconds):
            message = f"nothing is claimed for {seconds:g} s: {reason}"
            return _ERROR, "circuit-opened", message, {"seconds": seconds}
        case CircuitClosed(seconds):
            text = f"jobs are claimed again, after {seconds:.1f} s"
            return _INFO, "circuit-closed", text, {"seconds": seconds}
        case _:
            return None


def _of_jobs(level: str, name: str, text: str, job_ids: list[str]) -> Row:
    """Return the row of several jobs: all that a worker had may be lost at once."""
    shown, more = job_ids[:_MOST_IDS], len(job_ids) - _MOST_IDS
    listed = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    return level, name, f"{text}: {listed}", {"job_ids": shown, "jobs": len(job_ids)}


def _trouble(event: Event) -> Row | None:
    """Return the row of an event about locks or Redis."""
    match event:
        case LocksLost(job_ids):
            return _of_jobs(_ERROR, "locks-lost", "locks lost, their runs are ended", job_ids)
        case JobsStalled(job_ids):
            return _of_jobs(_WARNING, "stalled", "stalled, back in the queue", job_ids)
        case OutcomesDropped(job_ids, reason):
            return _of_jobs(_WARNING, "outcomes-dropped", f"outcome dropped, {reason}", job_ids)
        case BrokerLost(reason):
            return _ERROR, "broker-lost", f"Redis is away, waiting for it: {reason}", {}
        case BrokerBack(seconds):
            message = f"Redis is back after {seconds:.1f} s"
            return _INFO, "broker-back", message, {"seconds": seconds}
        case _:
            return None
