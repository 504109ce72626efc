"""Custom events: checks of their names and fields, and adding them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sandboxq.broker.commands import events
from sandboxq.errors import UsageError
from sandboxq.model.validation import checked_text, checked_whole
from sandboxq.queue.events import GAP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

FieldValue = str | int | float

# BullMQ's own events, those that Node's consumers emit locally, and ours.
RESERVED_NAMES = frozenset(
    {
        *("added", "waiting", "delayed", "waiting-children", "active", "progress", "completed"),
        *("failed", "retries-exhausted", "stalled", "drained", "removed", "cleaned", "paused"),
        *("resumed", "duplicated", "deduplicated", "debounced", "error", "ioredis", GAP),
    }
)
# A script can take some thousand arguments.
MAX_FIELDS = 500


async def publish_event(
    broker: Broker,
    keys: QueueKeys,
    name: str,
    fields: Mapping[str, FieldValue] | None,
    *,
    max_len: int | None,
) -> str:
    """Check and add an event; see Queue.publish_event."""
    checked_name = _checked_name(name)
    texts = _checked_fields(fields or {})
    limit = None if max_len is None else checked_whole("max_len", max_len, least=1)
    return await events.publish(broker, keys, checked_name, texts, max_len=limit)


def _checked_name(name: object) -> str:
    text = checked_text("name", name)
    # Node's consumers emit `completed:17` locally, for callers that wait for job 17.
    if text.partition(":")[0] in RESERVED_NAMES:
        reserved = ", ".join(sorted(RESERVED_NAMES))
        message = f"name {name!r} is taken: alone or before ':', these are not free: {reserved}"
        raise UsageError(message)
    return text


def _checked_fields(fields: Mapping[str, FieldValue]) -> dict[str, str]:
    if len(fields) > MAX_FIELDS:
        message = f"fields must be {MAX_FIELDS} at most, not {len(fields)}"
        raise UsageError(message)
    return {_field_name(name): _field_text(name, value) for name, value in fields.items()}


def _field_name(name: object) -> str:
    if name == "event":
        message = "fields must not have 'event', under which the event's name is stored"
        raise UsageError(message)
    return checked_text("the name of a field", name)


def _field_text(name: str, value: object) -> str:
    if isinstance(value, str):
        return checked_text(f"field {name}", value) if value else ""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value)):  # type: ignore[arg-type]  # a number by now
        message = f"field {name} must be text or a finite number, not {value!r}"
        raise UsageError(message)
    return str(value)
