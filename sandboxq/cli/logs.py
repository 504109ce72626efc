"""What a running worker logs, as text or as JSON, one event a line.

Text is printed as it is, made safe for a terminal; JSON holds it as it was.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

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
)
from sandboxq.payload.printable import printable, printable_json

# Text as a string of JSON, in C.
_quoted = json.encoder.encode_basestring
_EMPTY = '"message": ""'
# Level, name of the event, message, fields of a JSON line.
_Row = tuple[str, str, str, dict[str, Any]]

TEXT = "text"
JSON = "json"
_INFO, _WARNING, _ERROR = "INFO", "WARNING", "ERROR"

# What people want to read of a worker's telemetry; the rest is for counters.
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


class Format:
    """Makes lines of what is logged. Called by the writer thread alone."""

    def __init__(self, log_format: str) -> None:
        """Make lines of this kind."""
        self._is_json = log_format == JSON
        self._formatter = logging.Formatter()
        self._second = -1
        self._clock = ""

    def event(self, at: float, event: Event) -> str:
        """Return the line of an event that happened ``at``, in seconds since 1970."""
        if isinstance(event, JobLines):
            return self._printed_lines(at, event)
        level, name, message, fields = _row(event)
        stack = fields.get("stack")
        if stack and not self._is_json:
            message = f"{message}\n{stack}"
        return self._line(at, level, message, {"event": name, **fields})

    def _printed_lines(self, at: float, event: JobLines) -> str:
        """Return the lines of a job: tens of thousands a second, so few steps for each."""
        where = f"job {event.job_id}" if event.job_id else f"child {event.child_pid}"
        is_plain = "".join([where, *event.lines]).isprintable()
        if self._is_json:
            text = self._printed_rows(at, event, where)
            return text if is_plain else printable_json(text)
        head = self._line(at, _INFO, f"[{where}] ", {})[:-1]
        between = "\n" + head
        if is_plain:
            return f"{head}{between.join(event.lines)}\n"
        text = printable("\n".join(event.lines)).replace("\n", between)
        return f"{head}{text}\n"

    def _printed_rows(self, at: float, event: JobLines, where: str) -> str:
        fields = {
            "event": "line", "job_id": event.job_id, "child_pid": event.child_pid,
            "stream": event.stream,
        }  # fmt: skip
        head, tail = self._line(at, _INFO, "", fields).split(_EMPTY, 1)
        head += _EMPTY[:-2]
        messages = [_quoted(f"[{where}] {line}") for line in event.lines]
        return f"{head}{(tail + head).join(messages)}{tail}"

    def record(self, record: logging.LogRecord) -> str:
        """Return the lines of a log record, its traceback included."""
        message, fields = record.getMessage(), getattr(record, "fields", {})
        if record.exc_info:
            trace = self._formatter.formatException(record.exc_info)
            if self._is_json:
                fields = {**fields, "exception": trace}
            else:
                message = f"{message}\n{trace}"
        return self._line(record.created, record.levelname, message, fields)

    def dropped(self, count: int, why: str) -> str:
        """Return the line that says that lines are missing here."""
        lines = "1 line was dropped" if count == 1 else f"{count} lines were dropped"
        fields = {"event": "lines-dropped", "lines": count}
        return self._line(time.time(), "WARNING", f"{lines}: {why}", fields)

    def printed(self, text: str) -> str:
        """Return what was printed, in a log of JSON as rows of it."""
        if not self._is_json:
            return printable(text)
        rows = [self._line(time.time(), "WARNING", line, {}) for line in text.splitlines()]
        return "".join(rows)

    def _line(self, at: float, level: str, message: str, fields: dict[str, Any]) -> str:
        second = int(at)
        if second != self._second:
            self._second = second
            self._clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        if self._is_json:
            clock = f"{self._clock}.{int((at - second) * 1000):03d}Z"
            row = {"time": clock, "level": level.lower(), "message": message, **fields}
            return printable_json(json.dumps(row, ensure_ascii=False, default=str)) + "\n"
        text = printable(message)
        if "\n" in text:
            # Indented, so that text of a job cannot pass for a line of the log.
            text = text.replace("\n", "\n  ")
        return f"{self._clock}Z {level:<7} {text}\n"


def size_of_event(event: Event) -> int:
    """Return about how many characters the line of an event has."""
    match event:
        case AttemptFailed(reason=reason, stack=stack):
            return len(reason) + len(stack)
        case CircuitOpened(reason=reason):
            return len(reason)
        case ChildDied(reason=reason) | OutcomesDropped(reason=reason):
            return len(reason)
        case LoopBlocked(stack=stack):
            return len(stack)
        case _:
            return 0


def _row(event: Event) -> _Row:
    """Return level, event name, message and fields of an event that is SHOWN."""
    match event:
        case AttemptFailed():
            return _WARNING, "attempt-failed", *_failure(event)
        case _:
            row = _children(event) or _trouble(event)
            return row or (_INFO, "event", str(event), {})


def _failure(event: AttemptFailed) -> tuple[str, dict[str, Any]]:
    """Return message and fields of a failed attempt; in text its trace follows the message."""
    what = f"{event.cause}: {event.reason}" if event.cause else event.reason
    message = (
        f"job {event.job_id} ({event.job_name}) of queue {event.queue!r} failed {event.next_step}, "
        f"attempt {event.attempt} of {event.attempts}, after {event.seconds:.3f} s: {what}"
    )
    names = ("job_id", "queue", "attempt", "attempts", "cause", "reason", "next_step", "seconds")
    fields = {name: getattr(event, name) for name in names}
    return message, {"name": event.job_name, **fields, "stack": event.stack.rstrip()}


def _children(event: Event) -> _Row | None:
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
            message = f"jobs are claimed again, after {seconds:.1f} s"
            return _INFO, "circuit-closed", message, {"seconds": seconds}
        case _:
            return None


def _trouble(event: Event) -> _Row | None:
    """Return the row of an event about locks or Redis."""
    match event:
        case LocksLost(job_ids):
            message = f"locks lost, their runs are ended: {', '.join(job_ids)}"
            return _ERROR, "locks-lost", message, {"job_ids": job_ids}
        case JobsStalled(job_ids):
            message = f"stalled, back in the queue: {', '.join(job_ids)}"
            return _WARNING, "stalled", message, {"job_ids": job_ids}
        case OutcomesDropped(job_ids, reason):
            message = f"outcome dropped, {reason}: {', '.join(job_ids)}"
            return _WARNING, "outcomes-dropped", message, {"job_ids": job_ids}
        case BrokerLost(reason):
            message = f"Redis is away, waiting for it: {reason}"
            return _ERROR, "broker-lost", message, {}
        case BrokerBack(seconds):
            message = f"Redis is back after {seconds:.1f} s"
            return _INFO, "broker-back", message, {"seconds": seconds}
        case _:
            return None
