"""The same jobs in event loops, where many share one child."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

_spec = importlib.util.spec_from_file_location("chaos_sync", Path(__file__).parent / "processor.py")
assert _spec is not None
assert _spec.loader is not None
_sync = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_sync)


async def process(job: Any) -> Any:
    """Wait, then do what the job's name says; only jobs that need no answers come here."""
    if job.name == "nap":
        await asyncio.sleep(job.data.pop("s", 0.005))
        job.data["s"] = 0
    return _sync.process(job)
