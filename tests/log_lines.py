"""What must not stand in a worker's log, apart from what jobs themselves have raised."""

from __future__ import annotations

import json


def without_job_stack(line: str) -> str:
    """Return a line of a JSON log without the traceback of a job that has failed."""
    if '"event": "attempt-failed"' not in line:
        return line
    try:
        return json.dumps({**json.loads(line), "stack": None})
    except ValueError:
        return line
