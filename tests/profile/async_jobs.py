"""Jobs of an event loop that are sampled."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.profile.jobs import seventy, thirty


async def waits(gate: str) -> None:
    """Wait for the file, in small steps."""
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - memory, no disk
        await asyncio.sleep(0.02)


async def waits_in_tasks(gate: str) -> None:
    """Have others wait."""
    await asyncio.gather(waits(gate), waits(gate))


async def computes(gate: str) -> None:
    """Compute, and let others have the loop now and then."""
    while not Path(gate).exists():  # noqa: ASYNC240 - as above
        thirty(0.03)
        seventy(0.07)
        await asyncio.sleep(0)


async def process(job: Any) -> Any:
    """Do what the data says."""
    job.update_progress("begun")
    await globals()[job.data["do"]](job.data["gate"])
