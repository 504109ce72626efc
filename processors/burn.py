"""Compute in pure Python for a given time: a stand-in for any CPU-bound job.

Data: ``{"seconds": number}``.
Result: ``{"seconds": CPU seconds used, "rounds": how much was computed in them}``.
"""

from __future__ import annotations

import math
import time
from typing import Any

MAX_SECONDS = 86_400

# About a millisecond, so that the clock is read rarely and the time is still kept well.
ROUND_STEPS = 20_000


def process(job: Any) -> dict[str, Any]:
    """Use ``seconds`` of CPU time, however long that takes by the clock on the wall.

    CPU time makes the job the same amount of work wherever it runs: on a core of its own it takes
    ``seconds``, sharing one it takes longer.

    Raises: TypeError and ValueError, naming the field of ``job.data``.
    """
    wanted = _checked_seconds(job.data)
    began = time.thread_time()
    rounds = 0
    while time.thread_time() - began < wanted:
        _compute_round(rounds)
        rounds += 1
    return {"seconds": round(time.thread_time() - began, 6), "rounds": rounds}


def _compute_round(seed: int) -> int:
    value = seed
    for step in range(ROUND_STEPS):
        value = (value * 31 + step) & 0xFFFF_FFFF
    return value


def _checked_seconds(data: Any) -> float:
    allowed = f"a number from 0 to {MAX_SECONDS}"
    if not isinstance(data, dict):
        message = f"data must be an object with seconds, not {data!r}"
        raise TypeError(message)
    if "seconds" not in data:
        message = f"data.seconds is missing; it must be {allowed}"
        raise ValueError(message)
    seconds = data["seconds"]
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not math.isfinite(seconds) or not 0 <= seconds <= MAX_SECONDS:
        message = f"data.seconds must be {allowed}, not {seconds!r}"
        raise ValueError(message)
    return float(seconds)
