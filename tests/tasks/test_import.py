"""What a producer pays for having tasks: nothing of Redis, asyncio or the worker."""

from __future__ import annotations

import subprocess
import sys

TEXT = """
import sys
before = set(sys.modules)
from sandboxq import task

@task(queue="images", timeout=30)
def resize(path: str, *, width: int) -> int:
    return width

assert resize("a", width=3) == resize.call("a", width=3) == 3
for each in sorted(set(sys.modules) - before):
    print(each)
"""
HEAVY = {
    "asyncio",
    "redis",
    "hiredis",
    "uvloop",
    "click",
    "rich",
    "inspect",
    "dataclasses",
    "numpy",
}
OURS = {
    "sandboxq",
    "sandboxq.errors",
    "sandboxq.tasks",
    "sandboxq.tasks.task",
}


def test_importing_tasks_loads_little() -> None:
    """A web server's start, and that of each of its commands, is not held up by its queue."""
    done = subprocess.run(
        [sys.executable, "-c", TEXT], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert not loaded & HEAVY
    assert {name for name in loaded if name.partition(".")[0] == "sandboxq"} == OURS
