"""Hold the GIL in C for ``job.data`` seconds: nothing else in this process runs meanwhile."""

from __future__ import annotations

import ctypes
from typing import Any

# PyDLL, other than CDLL, keeps the GIL during a call.
_usleep = ctypes.PyDLL(None).usleep


def process(job: Any) -> None:
    """Sleep in C; in steps, for usleep takes less than 4,300 s, and none of them lets go."""
    _usleep(int(job.data * 1_000_000))
