"""The audit log of a prefix: a stream outside of all queues' keys, bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker

# About so many stay: some megabytes at most.
MOST_ENTRIES = 10_000


class AuditEntry(NamedTuple):
    """One action: the id has the time in ms; ``arguments`` is JSON."""

    id: str
    who: str
    action: str
    arguments: str
    outcome: str


def _key(prefix: str) -> str:
    # A cluster takes no key without a hash tag from us; a prefix may have its own.
    return f"{prefix}::{'sandboxq' if '{' in prefix else '{sandboxq}'}:audit"


async def add_entry(
    broker: Broker, prefix: str, *, who: str, action: str, arguments: str, outcome: str
) -> None:
    """Add an entry; the oldest go. Raises: QueueError."""
    fields = ("who", who, "action", action, "arguments", arguments, "outcome", outcome)
    texts = [each.encode(errors="replace") for each in fields]
    await broker.command("XADD", _key(prefix), "MAXLEN", "~", MOST_ENTRIES, "*", *texts)


async def entries_of(
    broker: Broker, prefix: str, *, before: str = "+", count: int
) -> list[AuditEntry]:
    """Return entries, the newest first: so many that are older than the one with the id ``before``.

    Raises: QueueError, also for an id that is none.
    """
    last = before if before == "+" else f"({before}"
    rows = await broker.command("XREVRANGE", _key(prefix), last, "-", "COUNT", count)
    return [_entry(*row) for row in rows]


def _entry(entry_id: bytes, parts: list[bytes]) -> AuditEntry:
    texts = [part.decode(errors="replace") for part in parts]
    fields = dict(zip(texts[::2], texts[1::2], strict=False))
    names = ("who", "action", "arguments", "outcome")
    return AuditEntry(entry_id.decode(), *(fields.get(name, "") for name in names))
