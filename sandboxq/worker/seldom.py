"""Warnings that others can cause at will: said once in a while, with how many were left out."""

from __future__ import annotations

import logging
import time

from sandboxq.errors import SandboxqError

_log = logging.getLogger("sandboxq.worker")

# Seconds between two warnings of one kind.
QUIET_SECONDS = 60.0


class Seldom:
    """Logs warnings, of each kind one in QUIET_SECONDS; the kinds are ours, and few."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._said_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, kind: str, detail: object) -> None:
        """Say ``kind``, a sentence, and what it is about; of an unknown error the trace too."""
        now = time.monotonic()
        if now - self._said_at.get(kind, -QUIET_SECONDS) < QUIET_SECONDS:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._said_at[kind] = now
        left_out = self._left_out.pop(kind, 0)
        more = f" (and {left_out} more since it was last said)" if left_out else ""
        trace = detail if isinstance(detail, Exception) else None
        is_known = trace is None or isinstance(trace, SandboxqError)
        _log.warning("%s: %s%s", kind, detail, more, exc_info=None if is_known else trace)
