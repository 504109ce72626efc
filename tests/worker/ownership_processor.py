"""Notes each run of a job, and does what the job's name says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def process(job: Any) -> str:
    """Leave the job's id in a file, so that a test can count runs."""
    with Path(job.data["path"]).open("a") as file:
        file.write(f"{job.id}\n")
    if job.name == "report":
        job.log("a row")
        job.update_progress(50)
    if job.name == "sleep":
        time.sleep(0.1)
    if job.name == "raise":
        message = "wanted"
        raise ValueError(message)
    return "done"
