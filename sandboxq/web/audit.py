"""Actions written down: who did what, when, and what came of it.

They are kept in the stream ``<prefix>::{sandboxq}:audit``, the newest ten thousand, and in the log.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from sandboxq.broker.commands.audit import add_entry
from sandboxq.errors import QueueError
from sandboxq.payload.printable import printable_line
from sandboxq.web.redact import cut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxq.web.access import Visitor
    from sandboxq.web.context import Dashboard

_log = logging.getLogger("sandboxq.web")
_MOST_OUTCOME = 500
_MOST_ARGUMENTS = 2000


async def write_down(
    dashboard: Dashboard,
    visitor: Visitor,
    action: str,
    arguments: Mapping[str, Any],
    outcome: str,
) -> None:
    """Write an action down. Where Redis does not take it, the log has it alone."""
    redaction = dashboard.redaction
    told = {name: _short(value) for name, value in arguments.items() if value is not None}
    text = cut(json.dumps(redaction.value(told), default=str), _MOST_ARGUMENTS)
    # One line: errors have in them what strangers have sent.
    outcome = cut(printable_line(redaction.text(outcome)), _MOST_OUTCOME)
    _log.info("%s by %r: %s %s", action, visitor.name, text, outcome)
    try:
        broker = await dashboard.broker()
        await add_entry(
            broker,
            dashboard.prefix,
            who=visitor.name,
            action=action,
            arguments=text,
            outcome=outcome,
        )
    except QueueError as error:
        _log.warning("this was not written into the audit log in Redis: %s", error)


def _short(value: Any) -> Any:
    """Return an argument, or how large it is: the data of a job may have megabytes."""
    if not isinstance(value, (str, list, dict)):
        return value
    try:
        size = len(json.dumps(value))
    except RecursionError:
        return "(JSON that is nested too deep)"
    return value if size <= _MOST_ARGUMENTS else f"({size:,} bytes of JSON)"
