"""Sleep for 10 ms without computing, many at once: the shortest I/O-bound job that is one."""

from __future__ import annotations

import asyncio

SECONDS = 0.01


async def process(job: object) -> None:
    """Sleep."""
    del job
    await asyncio.sleep(SECONDS)
