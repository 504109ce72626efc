"""What children say of what jobs have left: told once for each kind, and who is not charged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sandboxq.child import remains

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.pool.call import Call
    from sandboxq.pool.process import Child

_log = logging.getLogger("sandboxq.pool")

# What helps against it, where it is not what to do anyway: clean up.
_HINTS = {
    remains.PROCESSES: " (leave_processes lets them run on)",
    remains.DESCRIPTORS: " (what is to stay open for all jobs, setup() opens)",
    remains.THREADS: " (what is to run for all jobs, setup() starts)",
    remains.MEMORY: " (what is to be kept for all jobs, the module or setup() loads)",
}


class Leftovers:
    """Hears the children of one pool."""

    def __init__(self, dismiss: Callable[[Child, str], None]) -> None:
        """Have children that leave replaced by ``dismiss``."""
        self._dismiss = dismiss
        self._told: set[tuple[int, bool]] = set()

    def hear(self, child: Child, call: Call | None, detail: int, count: int) -> None:
        """Take what a child says that a job has left; ``call`` is that job while it is not over."""
        kind, leaves = detail & ~remains.LEAVES, bool(detail & remains.LEAVES)
        text = remains.text_of(kind, count)
        if kind == remains.MEMORY:
            child.left = count
        is_news = (kind, leaves) not in self._told
        self._told.add((kind, leaves))
        if is_news and (leaves or kind != remains.MEMORY):
            job = f"job {call.key.decode(errors='replace')}" if call else "a job"
            done = "its child is replaced" if leaves else "cleared"
            _log.warning(
                "%s left %s in child %d: %s%s; said once", job, text, child.pid, done,
                _HINTS.get(kind, ""),
            )  # fmt: skip
        if leaves:
            self._dismiss(child, f"for what jobs left: {text}")
