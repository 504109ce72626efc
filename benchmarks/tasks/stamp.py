"""Return the time at which the job started, on the clock that all processes of a machine share."""

from __future__ import annotations

import time


def process(job: object) -> int:
    """Return nanoseconds of CLOCK_MONOTONIC."""
    del job
    return time.monotonic_ns()
