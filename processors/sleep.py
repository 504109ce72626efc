"""Wait without computing: a stand-in for any I/O-bound job, many of which share one child.

Data: ``{"seconds": number}``.
Result: ``{"seconds": time it took}``.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

MAX_SECONDS = 86_400


async def process(job: Any) -> dict[str, Any]:
    """Sleep for ``seconds``.

    Raises: TypeError and ValueError, naming the field of ``job.data``.
    """
    wanted = _checked_seconds(job.data)
    began = time.perf_counter()
    await asyncio.sleep(wanted)
    return {"seconds": round(time.perf_counter() - began, 6)}


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
