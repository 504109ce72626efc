"""Limits of a job beside its sandbox: how much it may report, and whether it finds Redis.

Budgets are far more than usual work needs, and protect other jobs. The child enforces them and
tells the job, or writes to its log. The coordinator ends a child that exceeds them
(pool/boundary.py).
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import NamedTuple


class Budgets(NamedTuple):
    """Of one job; ``questions`` of one child for each job that it runs at once."""

    reports: int = 1_000_000  # progress, log rows and new data, together
    report_bytes: int = 64 << 20
    lines: int = 10_000  # that it prints or logs; a long one counts as one for each KB
    questions: int = 16  # under way
    failure_text: int = 64 * 1024  # characters of a stack; the reason has a quarter of that
    rate_limit: float = 7 * 24 * 3600.0  # seconds that it may have its queue rest


DEFAULT_BUDGETS = Budgets()

# ── Redis ───────────────────────────────────────────────────────────────────
# A job that is not told where its worker's Redis is must give a URL. Without one it would mean the
# embedded server of its directory: silently another Redis.

# Set in every child that is a process.
REDIS_WITHHELD = "SANDBOXQ_REDIS_WITHHELD"
_is_withheld: ContextVar[bool] = ContextVar("sandboxq_redis_withheld", default=False)


def withhold_redis() -> None:
    """Withhold the URL of Redis from this thread or task, and from what copies its context."""
    _is_withheld.set(True)


def is_redis_withheld() -> bool:
    """Tell whether the URL of Redis is withheld here."""
    return REDIS_WITHHELD in os.environ or _is_withheld.get()
