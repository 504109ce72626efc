"""The audit log: who did what, when, and what came of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, TypedDict

from sandboxq.broker.commands.audit import entries_of
from sandboxq.errors import UsageError
from sandboxq.web.context import Dashboard
from sandboxq.web.operations import read

if TYPE_CHECKING:
    from sandboxq.broker.commands.audit import AuditEntry

MOST_ROWS = 200
_ID = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)


class AuditRow(TypedDict):
    """One action; ``arguments`` is JSON."""

    id: str
    at_ms: int
    who: str
    action: str
    arguments: str
    outcome: str


class AuditAnswer(TypedDict):
    """The newest first. ``next``: what ``before`` is to be for older ones, None: there are none."""

    next: str | None
    entries: list[AuditRow]


@read("/audit")
async def read_audit(dashboard: Dashboard, *, before: str = "", count: int = 100) -> AuditAnswer:
    """Actions, the newest first: who, what, when, what came of it."""
    if not 1 <= count <= MOST_ROWS or (before and not _ID.fullmatch(before)):
        message = f"count must be 1 to {MOST_ROWS}, and before the id of an entry"
        raise UsageError(message)
    broker = await dashboard.broker()
    entries = await entries_of(broker, dashboard.prefix, before=before or "+", count=count)
    rows: list[AuditRow] = [
        {
            "id": it.id,
            "at_ms": int(it.id.partition("-")[0]),
            "who": it.who,
            "action": it.action,
            "arguments": it.arguments,
            "outcome": it.outcome,
        }
        for it in entries
        if _is_shown(dashboard, it)
    ]
    return {"next": entries[-1].id if len(entries) == count else None, "entries": rows}


def _is_shown(dashboard: Dashboard, entry: AuditEntry) -> bool:
    """Tell whether this page shows the queue of the action; all pages of a prefix share the log."""
    # The queue is the first argument of every action; what comes behind it may be cut.
    starts = tuple(f'{{"queue": {json.dumps(name)}' for name in dashboard.settings.queues)
    return not starts or entry.arguments.startswith(starts)
