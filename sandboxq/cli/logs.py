"""What a running worker logs, as text or as JSON, one event a line."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

from sandboxq.telemetry import (
    AttemptFailed,
    BrokerBack,
    BrokerLost,
    ChildDied,
    ChildRecycled,
    CircuitClosed,
    CircuitOpened,
    Event,
    JobLine,
    JobsStalled,
    LocksLost,
    LoopBlocked,
    OutcomesDropped,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = "text"
JSON = "json"

_log = logging.getLogger("sandboxq")


class _TextFormatter(logging.Formatter):
    """``2026-11-22T20:41:17Z INFO message``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime


class _JsonFormatter(logging.Formatter):
    """One JSON object a line, with the event's own fields beside time, level and message."""

    def __init__(self) -> None:
        super().__init__()
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False, default=str)


class _LineHandler(logging.Handler):
    """Gives each formatted line to ``write``, which may have a progress line to keep in place."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record))
        except (OSError, ValueError):  # who read it is gone: no reason to stop what was logged
            self.handleError(record)


def configure(log_format: str, write: Callable[[str], None]) -> None:
    """Send everything that sandboxq logs to ``write``, line by line."""
    handler = _LineHandler(write)
    handler.setFormatter(_JsonFormatter() if log_format == JSON else _TextFormatter())
    _log.handlers = [handler]
    _log.propagate = False
    _log.setLevel(logging.INFO)


def log_event(event: Event) -> None:
    """Log what people want to read of a worker's telemetry; the rest is for counters."""
    row = _row(event)
    if row is None:
        return
    level, name, message, fields = row
    _log.log(level, "%s", message, extra={"fields": {"event": name, **fields}})


def _row(event: Event) -> tuple[int, str, str, dict[str, Any]] | None:
    """Return level, event name, message and fields of an event, or None."""
    match event:
        case JobLine(job_id, pid, stream, line):
            where = f"job {job_id}" if job_id else f"child {pid}"
            fields = {"job_id": job_id, "child_pid": pid, "stream": stream}
            return logging.INFO, "line", f"[{where}] {line}", fields
        case AttemptFailed(job_id, name, reason, next_step, seconds):
            message = f"job {job_id} ({name}) failed {next_step} after {seconds:.3f} s: {reason}"
            fields = {"job_id": job_id, "name": name, "reason": reason, "next_step": next_step}
            return logging.WARNING, "attempt-failed", message, fields
        case _:
            return _children(event) or _trouble(event)


def _children(event: Event) -> tuple[int, str, str, dict[str, Any]] | None:
    """Return the row of an event about children."""
    match event:
        case ChildDied(pid, reason):
            return logging.WARNING, "child-died", f"child {pid} ended: {reason}", {"child_pid": pid}
        case LoopBlocked(pid, job_id, seconds, waiting, stack):
            who = f"job {job_id}" if job_id else "no job's own code"
            message = (
                f"{who} blocks the event loop of child {pid} for {seconds:.1f} s, "
                f"{waiting} jobs wait for it: use await, or asyncio.to_thread"
            )
            fields = {"child_pid": pid, "job_id": job_id, "seconds": seconds, "waiting": waiting}
            text = f"{message}\n{stack}" if stack else message
            return logging.WARNING, "loop-blocked", text, {**fields, "stack": stack}
        case CircuitOpened(reason, seconds):
            message = f"nothing is claimed for {seconds:g} s: {reason}"
            return logging.ERROR, "circuit-opened", message, {"seconds": seconds}
        case CircuitClosed(seconds):
            message = f"jobs are claimed again, after {seconds:.1f} s"
            return logging.INFO, "circuit-closed", message, {"seconds": seconds}
        case ChildRecycled(pid, why):
            message = f"child {pid} is replaced {why}"
            return logging.DEBUG, "child-recycled", message, {"child_pid": pid}
        case _:
            return None


def _trouble(event: Event) -> tuple[int, str, str, dict[str, Any]] | None:
    """Return the row of an event about locks or Redis."""
    match event:
        case LocksLost(job_ids):
            message = f"locks lost, their runs are ended: {', '.join(job_ids)}"
            return logging.ERROR, "locks-lost", message, {"job_ids": job_ids}
        case JobsStalled(job_ids):
            message = f"stalled, back in the queue: {', '.join(job_ids)}"
            return logging.WARNING, "stalled", message, {"job_ids": job_ids}
        case OutcomesDropped(job_ids, reason):
            message = f"outcome dropped, {reason}: {', '.join(job_ids)}"
            return logging.WARNING, "outcomes-dropped", message, {"job_ids": job_ids}
        case BrokerLost(reason):
            message = f"Redis is away, waiting for it: {reason}"
            return logging.ERROR, "broker-lost", message, {}
        case BrokerBack(seconds):
            message = f"Redis is back after {seconds:.1f} s"
            return logging.INFO, "broker-back", message, {"seconds": seconds}
        case _:
            return None
