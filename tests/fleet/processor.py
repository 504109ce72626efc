"""A job that takes as long as it is told."""

from __future__ import annotations

import time
from typing import Any


def process(job: Any) -> int:
    """Wait, and return the job's number."""
    time.sleep(job.data["ms"] / 1000)
    return int(job.data["number"])
