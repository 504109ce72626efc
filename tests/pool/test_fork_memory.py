"""What the zygote does about its memory before it forks."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_SETTLE = """
from sandboxq.pool.children import forking
forking.settle_memory(int)
print(sum(map(len, forking._in_gaps)))
"""


_REFUSES = """
import sys

def refuse(event, arguments):
    if event in ("object.__setattr__", "code.__new__"):
        raise RuntimeError(event)

sys.addaudithook(refuse)

def process(job):
    return job.data
"""


def test_a_module_may_forbid_that_code_is_replaced(tmp_path: Path) -> None:
    """Then it stays where it is: that is a matter of memory alone."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _REFUSES)) as caller:
            assert await caller.value(1) == 1

    run_async(main())


def test_no_memory_is_taken_where_gaps_cannot_be_filled() -> None:
    """Another allocator has no pools: 40 MB were kept for nothing."""
    environment = {**os.environ, "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-c", _SETTLE]
    kept = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert int(kept.stdout) < 1 << 20
