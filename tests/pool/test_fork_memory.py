"""What the zygote does about its memory before it forks."""

from __future__ import annotations

import os
import subprocess
import sys

_SETTLE = """
from sandboxq.pool.children import forking
forking.settle_memory(int)
print(sum(map(len, forking._in_gaps)))
"""


def test_no_memory_is_taken_where_gaps_cannot_be_filled() -> None:
    """Another allocator has no pools: 40 MB were kept for nothing."""
    environment = {**os.environ, "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-c", _SETTLE]
    kept = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert int(kept.stdout) < 1 << 20
