"""The processor of the fuzzers: it takes whatever is there, and never raises for it."""

from __future__ import annotations

import contextlib
import time
from typing import Any


def process(job: Any) -> str:
    """Look at everything that a job has; sleep for as long as a good job says."""
    for name in ("data", "opts", "parent", "progress", "timestamp", "priority", "trace_context"):
        with contextlib.suppress(Exception):
            getattr(job, name)
    with contextlib.suppress(Exception):
        time.sleep(min(float(job.data["s"]), 0.2))
    return "done"
