"""Jobs as their hashes in Redis tell of them (protocol.md 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandboxq.broker.codec import json_value, options_from_wire
from sandboxq.errors import OptionsUnreadable
from sandboxq.model.job import (
    JobOptions,
    StoredJob,
    Usage,
    usage_from_measure,
)
from sandboxq.model.validation import whole_from_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def job_from_hash(queue_name: str, job_id: str, fields: Mapping[bytes, bytes]) -> StoredJob:
    """Return the job that a hash describes.

    Made for looking at jobs, so it never refuses one: JSON that cannot be read is given as its raw
    text, unreadable options as the defaults, a missing field as its default.
    """
    known: dict[str, Any] = {}
    extra: dict[str, str] = {}
    for name, value in fields.items():
        reader = _FIELDS.get(name)
        if reader is None:
            extra[name.decode(errors="replace")] = _string(value)
        else:
            known[reader[0]] = reader[1](value)
    if b"attemptsMade" in fields:
        # What BullMQ before 5 counted; what was counted since comes on top.
        known["attempts_made"] = _whole(fields[b"attemptsMade"]) + _whole(fields.get(b"atm", b""))
    known.setdefault("name", "")
    known.setdefault("data", {})
    known.setdefault("opts", JobOptions())
    return StoredJob(id=job_id, queue_name=queue_name, extra=extra, **known)


def _string(value: bytes) -> str:
    return value.decode(errors="replace")


def _name(value: bytes) -> str | None:
    return _string(value) or None


def _json(value: bytes) -> Any:
    try:
        return json_value(value)
    except ValueError:
        return _string(value)


def _data(value: bytes) -> Any:
    return _json(value) if value else {}


def _json_object(value: bytes) -> dict[str, Any] | None:
    parsed = _json(value)
    return parsed if isinstance(parsed, dict) else None


def traces_from_wire(value: bytes) -> tuple[str, ...]:
    """Return the traces of a job's ``stacktrace``, the oldest first."""
    parsed = _json(value)
    return tuple(str(trace) for trace in parsed) if isinstance(parsed, list) else (_string(value),)


def _history(value: bytes) -> tuple[str, ...]:
    return tuple(_string(value).split(", "))


def _usage(value: bytes) -> Usage | None:
    try:
        wall, user, system, peak = map(int, value.split())
    except ValueError:
        return None
    return usage_from_measure((wall, user, system, peak))


def _whole(value: bytes) -> int:
    return whole_from_wire(value) or 0


def _options(value: bytes) -> JobOptions:
    try:
        return options_from_wire(value)
    except OptionsUnreadable:
        return JobOptions()


# By hash field: the field of StoredJob, and how to read it.
_FIELDS: dict[bytes, tuple[str, Callable[[bytes], Any]]] = {
    b"name": ("name", _string),
    b"data": ("data", _data),
    b"opts": ("opts", _options),
    b"timestamp": ("timestamp_ms", _whole),
    b"delay": ("delay_ms", _whole),
    b"priority": ("priority", _whole),
    b"atm": ("attempts_made", _whole),
    b"attemptsMade": ("attempts_made", _whole),
    b"ats": ("attempts_started", _whole),
    b"stc": ("stalled_counter", _whole),
    b"processedOn": ("processed_on_ms", _whole),
    b"finishedOn": ("finished_on_ms", _whole),
    b"pb": ("processed_by", _string),
    b"progress": ("progress", _json),
    b"returnvalue": ("returnvalue", _json),
    b"failedReason": ("failed_reason", _string),
    b"stacktrace": ("stacktrace", traces_from_wire),
    b"parentKey": ("parent_key", _string),
    b"parent": ("parent", _json_object),
    b"defa": ("deferred_failure", _string),
    b"deid": ("deduplication_id", _name),
    b"rjk": ("scheduler_id", _name),
    b"sq:cause": ("cause", _string),
    b"sq:binary": ("data_reference", _string),
    b"sq:result": ("value_reference", _string),
    b"sq:crashes": ("crashes", _whole),
    b"sq:history": ("crash_history", _history),
    b"sq:usage": ("usage", _usage),
}
