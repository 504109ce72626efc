"""An async processor of arrays: several of them are in one child's arena at once."""

from __future__ import annotations

import asyncio
from typing import Any


async def process(job: Any) -> Any:
    """Return the job's array plus one, a little later."""
    array = job.array()
    await asyncio.sleep(0.01)
    return array + 1
