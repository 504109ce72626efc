"""Makes reports out of chapters: a flow, whose root waits for all of them."""

import time
from typing import Any


def process(job: Any) -> dict[str, Any] | int | float:
    """Write a chapter, or bind what was written."""
    seconds = job.data.get("seconds", 0.3)
    print(f"writing {job.name}")
    if job.data.get("fails"):
        message = f"no figures for {job.data['region']}"
        raise LookupError(message)
    counted(seconds)
    return {"pages": 12 + len(job.name)}


def counted(seconds: float) -> int:
    """Keep a core busy."""
    until = time.monotonic() + seconds
    total = 0
    while time.monotonic() < until:
        total += sum(range(1000))
    return total
