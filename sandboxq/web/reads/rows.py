"""Jobs as rows of a list: the parts that are read of each, and what is shown of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from sandboxq.broker.codec import json_value
from sandboxq.broker.commands.peek import NO_PART, peek
from sandboxq.model.validation import whole_from_wire
from sandboxq.web.redact import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.commands.peek import Part, Row
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.web.redact import Redaction

State = Literal[
    "waiting", "prioritized", "delayed", "active", "completed", "failed", "waiting-children"
]
STATES = ("active", "waiting", "prioritized", "delayed", "waiting-children", "completed", "failed")
# Of one list, and of one page of it.
MOST_ROWS = 200
_PREVIEW_BYTES = 1000
_MOST_PREVIEW = 200
_MOST_REASON = 500
_SHORT = 200
# What a row is made of; long parts are cut in Redis.
WANTED = {
    **dict.fromkeys(("name", "pb", "deid", "rjk", "parentKey", "sq:cause", "progress"), _SHORT),
    **dict.fromkeys(("timestamp", "delay", "priority", "processedOn", "finishedOn"), 24),
    **dict.fromkeys(("atm", "attemptsMade", "ats", "stc", "sq:crashes"), 24),
    "failedReason": _MOST_REASON,
    "data": _PREVIEW_BYTES,
}


class JobRow(TypedDict):
    """One job in a list. Times are ms since 1970; ``wait`` and ``run`` seconds, None: not known.

    ``data`` is the beginning of its JSON, with secrets hidden; ``data_bytes`` all of it.
    """

    queue: str
    id: str
    name: str
    state: str
    data: str
    data_bytes: int
    timestamp_ms: int
    delay_ms: int
    priority: int
    attempts_made: int
    attempts_started: int
    stalled: int
    crashes: int
    processed_on_ms: int | None
    finished_on_ms: int | None
    wait: float | None
    run: float | None
    worker: str | None
    cause: str | None
    failed_reason: str | None
    progress: str | None
    scheduler: str | None
    parent: str | None


async def read_rows(
    broker: Broker, keys: QueueKeys, state: str, ids: Sequence[str], redaction: Redaction
) -> list[JobRow]:
    """Return the rows of these jobs; an id without a job is left out."""
    found = await peek(broker, keys, ids, WANTED)
    return [
        job_row(keys.queue, job_id, state, row, redaction)
        for job_id, row in zip(ids, found, strict=True)
        if row
    ]


def job_row(queue: str, job_id: str, state: str, row: Row, redaction: Redaction) -> JobRow:
    """Return what is shown of a job."""
    timestamp, delay = number(row, "timestamp") or 0, number(row, "delay") or 0
    processed, finished = number(row, "processedOn"), number(row, "finishedOn")
    made = (number(row, "atm") or 0) + (number(row, "attemptsMade") or 0)
    data = row.get("data", NO_PART)
    return {
        "queue": queue,
        "id": job_id,
        "name": text(row, "name") or "",
        "state": state,
        "data": cut(redaction.json_text(data.text), _MOST_PREVIEW),
        "data_bytes": data.size,
        "timestamp_ms": timestamp,
        "delay_ms": delay,
        "priority": number(row, "priority") or 0,
        "attempts_made": made,
        "attempts_started": number(row, "ats") or 0,
        "stalled": number(row, "stc") or 0,
        "crashes": number(row, "sq:crashes") or 0,
        "processed_on_ms": processed,
        "finished_on_ms": finished,
        "wait": seconds_between(timestamp + delay if timestamp else None, processed),
        "run": seconds_between(processed, finished),
        "worker": text(row, "pb"),
        "cause": text(row, "sq:cause"),
        "failed_reason": shown_text(row, "failedReason", redaction),
        "progress": shown_text(row, "progress", redaction),
        "scheduler": text(row, "rjk"),
        "parent": text(row, "parentKey"),
    }


def number(row: Row, name: str) -> int | None:
    """Return a field that is a whole number; None where it is none."""
    part = row.get(name, NO_PART)
    return whole_from_wire(part.raw) if part.size else None


def text(row: Row, name: str) -> str | None:
    """Return a field, None where there is none."""
    part = row.get(name, NO_PART)
    return _with_dots(part) if part.size else None


def shown_text(row: Row, name: str, redaction: Redaction) -> str | None:
    """Return a field that may have secrets in it."""
    found = text(row, name)
    return None if found is None else redaction.json_text(redaction.text(found))


def _with_dots(part: Part) -> str:
    return f"{part.text}…" if part.is_cut else part.text


def seconds_between(first: int | None, second: int | None) -> float | None:
    """Return seconds from one time in ms to another, None when one is not known."""
    if first is None or second is None:
        return None
    return max(0.0, (second - first) / 1000)


class Value(TypedDict):
    """JSON that is stored with a job, secrets hidden.

    ``value`` is it, when it is not too large to be shown whole; else ``text`` is its beginning.
    """

    value: Any
    text: str | None
    bytes: int
    is_cut: bool


def stored_value(part: Part, redaction: Redaction) -> Value:
    """Return a field of JSON as it is shown."""
    value, raw = None, None
    if part.is_cut:
        raw = redaction.json_text(part.text)
    elif part.size:
        try:
            value = redaction.value(json_value(part.raw))
            json.dumps(value)  # what is nested too deep cannot be written again
        except (ValueError, RecursionError):
            value, raw = None, redaction.json_text(part.text)
    return {"value": value, "text": raw, "bytes": part.size, "is_cut": part.is_cut}
