"""How much one job may say: far more than honest work needs, and little enough for everybody else.

The child keeps to it and says so, to the job or beside its log. The coordinator ends a child that
does not keep to it (pool/boundary.py).
"""

from __future__ import annotations

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
