"""Whether code here is that of a job which is not told where its worker's Redis is.

Without a URL it would mean the embedded server of its directory: silently another Redis.
"""

from __future__ import annotations

import os
from contextvars import ContextVar

# Set in every child that is a process.
REDIS_WITHHELD = "SANDBOXQ_REDIS_WITHHELD"
_is_withheld: ContextVar[bool] = ContextVar("sandboxq_redis_withheld", default=False)


def withhold_redis() -> None:
    """Say so of this thread, or task, and of what copies its context."""
    _is_withheld.set(True)


def is_redis_withheld() -> bool:
    """Tell whether a URL is missing here on purpose."""
    return REDIS_WITHHELD in os.environ or _is_withheld.get()
