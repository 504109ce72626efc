"""The queue on whose behalf this task runs, for lines of the log.

A worker of several sets it at its start: tasks, and callbacks of the loop, inherit it.
"""

from __future__ import annotations

from contextvars import ContextVar

current_queue: ContextVar[str] = ContextVar("sandboxq_current_queue", default="")
