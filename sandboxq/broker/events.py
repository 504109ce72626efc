"""Looks into the events stream of a queue (bullmq-wire.md 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys

COMPLETED = "completed"
FAILED = "failed"
REMOVED = "removed"

_ENTRIES_PER_PAGE = 1000
# The stream keeps about 10,000 entries; a stream that nobody trims is not searched to its end.
_PAGES = 50


async def last_event_id(broker: Broker, keys: QueueKeys) -> str:
    """Return the id of the newest entry, from which a reader sees all that follows."""
    newest = await broker.command("XREVRANGE", keys["events"], "+", "-", "COUNT", 1)
    return newest[0][0].decode() if newest else "0-0"


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
