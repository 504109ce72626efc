"""The log of a running worker, as text or as JSON, one event a line.

In text, what a terminal would obey is escaped; JSON has the original.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from sandboxq.observe.log import SHOWN, fields_of_attempt, place_of_lines, row_from_event
from sandboxq.observe.telemetry import (
    AttemptFailed,
    ChildDied,
    CircuitOpened,
    Event,
    JobLines,
    LoopBlocked,
    OutcomesDropped,
)
from sandboxq.payload.printable import printable, printable_json, with_frames

# Text as a string of JSON, in C.
_quoted = json.encoder.encode_basestring
_EMPTY = '"message": ""'

TEXT = "text"
JSON = "json"
__all__ = ["JSON", "SHOWN", "TEXT", "Format", "size_of_event"]
_INFO = "INFO"


class Format:
    """Makes lines of events. Called by the writer thread alone."""

    def __init__(self, log_format: str, *, names_queues: bool = False) -> None:
        """Make lines of this kind; in text the queue is named only if ``names_queues``."""
        self._names_queues = names_queues
        self._is_json = log_format == JSON
        self._formatter = logging.Formatter()
        self._second = -1
        self._clock = ""

    def event(self, at: float, event: Event, queue: str = "") -> str:
        """Return the line of an event that happened ``at``, in seconds since 1970."""
        if isinstance(event, JobLines):
            return self._printed_lines(at, event, queue)
        level, name, message, fields = row_from_event(event)
        stack = with_frames(fields.get("stack", ""))
        if stack and not self._is_json:
            message = f"{message}\n{stack}"
        return self._line(at, level, message, {"event": name, **fields}, queue)

    def _printed_lines(self, at: float, event: JobLines, queue: str) -> str:
        """Return the lines of a job: tens of thousands a second, so few steps for each."""
        where = place_of_lines(event)
        is_plain = "".join([where, *event.lines]).isprintable()
        if self._is_json:
            text = self._printed_rows(at, event, where, queue)
            return text if is_plain else printable_json(text)
        head = self._line(at, _INFO, f"[{where}] ", {}, queue)[:-1]
        between = "\n" + head
        if is_plain:
            return f"{head}{between.join(event.lines)}\n"
        text = printable("\n".join(event.lines)).replace("\n", between)
        return f"{head}{text}\n"

    def _printed_rows(self, at: float, event: JobLines, where: str, queue: str) -> str:
        fields = {
            "event": "line", "job_id": event.job_id, "child_pid": event.child_pid,
            "stream": event.stream, **fields_of_attempt(event),
        }  # fmt: skip
        head, tail = self._line(at, _INFO, "", fields, queue).split(_EMPTY, 1)
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
        queue = getattr(record, "queue", "")
        return self._line(record.created, record.levelname, message, fields, queue)

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

    def _line(
        self, at: float, level: str, message: str, fields: dict[str, Any], queue: str = ""
    ) -> str:
        second = int(at)
        if second != self._second:
            self._second = second
            self._clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        if self._is_json:
            clock = f"{self._clock}.{int((at - second) * 1000):03d}Z"
            row = {"time": clock, "level": level.lower(), "message": message, **fields}
            if queue:
                row["queue"] = queue
            return printable_json(json.dumps(row, ensure_ascii=False, default=str)) + "\n"
        text = printable(f"{queue}: {message}" if queue and self._names_queues else message)
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
