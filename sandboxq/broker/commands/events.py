"""Looks into the events stream of a queue (protocol.md 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandboxq.broker.connect.script import load
from sandboxq.broker.connect.stream_position import look_from_reply, text_from_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.connect.stream_position import Look
    from sandboxq.broker.keys import QueueKeys

ACTIVE = "active"
COMPLETED = "completed"
# The field of a completed event that names the arrays and bytes of its value
# (broker/commands/binary.py).
RESULT = "sq:result"
FAILED = "failed"
# The fields of a failed event that name the class of the error and the attempt.
CAUSE = "sq:cause"
ATTEMPT = "sq:attempt"
REMOVED = "removed"

_ENTRIES_PER_PAGE = 1000
# The stream keeps about 10,000 entries; a stream that nobody trims is not searched to its end.
_PAGES = 50


async def look_at_events(broker: Broker, keys: QueueKeys) -> Look:
    """Return the state of the stream."""
    return look_from_reply(await broker.script(load("events_look"), [keys["events"]], []))


async def events_after(
    broker: Broker, keys: QueueKeys, last_id: str, most: int
) -> tuple[Look, list[tuple[str, dict[str, str]]]]:
    """Look, and return ``(id, fields)`` of up to so many entries after ``last_id``; do not wait."""
    key = keys["events"]
    look = ("EVAL", load("events_look").text, 1, key)
    read = ("XREAD", "COUNT", most, "STREAMS", key, last_id)
    looked, reply = await broker.pipeline([look, read])
    entries = reply[0][1] if reply else []
    return look_from_reply(looked), [(entry[0].decode(), _fields(entry[1])) for entry in entries]


async def last_event_id(broker: Broker, keys: QueueKeys) -> str:
    """Return the id of the newest entry, from which a reader sees all that follows."""
    return text_from_id((await look_at_events(broker, keys)).last)


async def publish(
    broker: Broker, keys: QueueKeys, name: str, fields: Mapping[str, str], *, max_len: int | None
) -> str:
    """Add an event to the stream and return its id; ``max_len`` trims to about so many events.

    None trims as every other event of the queue does, to about ``opts.maxLenEvents``.
    """
    args: list[str | int] = [name, "" if max_len is None else max_len]
    for field, text in fields.items():
        args += [field, text]
    entry_id: bytes = await broker.script(load("publish"), [keys.base], args)
    return entry_id.decode()


async def endings_in_stream(
    broker: Broker, keys: QueueKeys, job_ids: Collection[str]
) -> dict[str, dict[str, str]]:
    """Return the newest ``completed`` or ``failed`` entry of each of these jobs that has one."""
    found: dict[str, dict[str, str]] = {}
    newest = "+"
    for _ in range(_PAGES):
        command = ("XREVRANGE", keys["events"], newest, "-", "COUNT", _ENTRIES_PER_PAGE)
        page = await broker.command(*command)
        for _, flat in page:
            fields = _fields(flat)
            job_id = fields.get("jobId", "")
            if fields.get("event") in {COMPLETED, FAILED} and job_id in job_ids:
                found.setdefault(job_id, fields)
        if len(page) < _ENTRIES_PER_PAGE or len(found) == len(job_ids):
            break
        newest = f"({page[-1][0].decode()}"
    return found


def _fields(flat: list[Any]) -> dict[str, str]:
    texts = [value.decode(errors="replace") for value in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
