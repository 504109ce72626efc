"""The words for what happens in a worker: its own log and the program's `logging` say the same."""

from __future__ import annotations

import logging
from typing import Any

from sandboxq.observe.log_queue import QueueingHandler
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
from sandboxq.payload.printable import printable

_INFO, _WARNING, _ERROR = "INFO", "WARNING", "ERROR"
# Level, name of the event, message, further fields.
Row = tuple[str, str, str, dict[str, Any]]

_log = logging.getLogger("sandboxq.worker.events")
# What jobs print, on level INFO.
_job_log = logging.getLogger("sandboxq.worker.jobs")

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


def log_events(telemetry: Telemetry) -> bool:
    """Log what a worker tells; False: the command does, which has a writer of its own."""
    handlers = logging.getLogger("sandboxq").handlers
    if any(isinstance(handler, QueueingHandler) for handler in handlers):
        return False
    telemetry.subscribe(_log_event, *(kind for kind in SHOWN if kind is not JobLines))
    if _job_log.isEnabledFor(logging.INFO):
        telemetry.subscribe(_log_lines, JobLines)
    return True


def _log_event(event: Event) -> None:
    level, name, message, fields = row_from_event(event)
    if stack := fields.get("stack"):
        message = f"{message}\n{stack}"
    # Indented, so that text of a job cannot pass for a line of the log.
    text = printable(message).replace("\n", "\n  ")
    _log.log(getattr(logging, level), "%s", text, extra={"fields": {"event": name, **fields}})


def _log_lines(event: Any) -> None:
    where = f"job {event.job_id}" if event.job_id else f"child {event.child_pid}"
    for line in event.lines:
        _job_log.info("[%s] %s", where, printable(line))


def row_from_event(event: Event) -> Row:
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
            message = f"jobs are claimed again, after {seconds:.1f} s"
            return _INFO, "circuit-closed", message, {"seconds": seconds}
        case _:
            return None


def _trouble(event: Event) -> Row | None:
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
