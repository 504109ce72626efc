"""What a start costs, in figures that do not depend on how busy the machine is."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

_POLICIES = ("none", "limits", "strict")
_GATHERED = """
import sys
from sandboxq.child.practice import practise
from sandboxq.pool.children import forking

def pages():
    return len({id(code) // 4096 for code in forking._code_of(practise).values()})

practise()
before = pages()
forking.settle_memory(practise)
print(before, pages())
"""
_OPENED = """
import os, sys

opened = []

def hear(event, arguments):
    if event in ("open", "os.listdir", "os.scandir"):
        opened.append((os.getpid(), str(arguments[0])))

sys.addaudithook(hear)

def process(job):
    return [path for pid, path in opened if pid == os.getpid()]
"""
_UNCHANGED = """
def process(job):
    from sandboxq.child import process_state
    (states,) = process_state._of_zygote
    return [state._read.__name__ for each in states for state in each if state.is_changed()]
"""
_COORDINATOR = """
import asyncio, sys
from typing import TYPE_CHECKING
from tests.pool.caller import open_pool

opened = []
is_heard = False

def hear(event, arguments):
    if is_heard and event in ("open", "os.listdir", "os.scandir"):
        opened.append(arguments[0])

async def main():
    global is_heard
    async with open_pool(sys.argv[1], policy="none") as caller:
        is_heard = True
        await caller.pool.resize(2)
        is_heard = False

sys.addaudithook(hear)
asyncio.run(main())
print(opened)
"""
# Of 3.11 on x86-64 it is 2.75 MB; 3.0 MB before code was put side by side.
_MOST_PRIVATE = 2_870_000
_WEIGHED = """
def process(job):
    with open("/proc/self/smaps_rollup") as rollup:
        lines = [line.split() for line in rollup if line.startswith("Private_")]
    return sum(int(line[1]) for line in lines) * 1024
"""


def test_the_coordinator_opens_no_file_for_a_child(tmp_path: Path) -> None:
    """All jobs wait while it does: what it must know it asks once."""
    path = processor_file(tmp_path, "def process(job): pass")
    command = [sys.executable, "-c", _COORDINATOR, str(path)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr


def test_what_a_child_opens(tmp_path: Path) -> None:
    """Each file that it looks at is a system call or four of every start."""

    async def main() -> None:
        path = processor_file(tmp_path, _OPENED)
        async with open_pool(path, policy="none") as caller:
            found = [each for each in await caller.value(None) if "cgroup" not in each]
        assert [each for each in found if each.isdigit()] == found[-1:], "the folder below is read"
        assert sorted(found[:-1]) == [
            "/proc/self/clear_refs",
            "/proc/self/fd",
            "/proc/self/oom_score_adj",
            "/proc/self/status",
            "/proc/self/timers",
        ]

    run_async(main())


@pytest.mark.parametrize("policy", _POLICIES)
def test_what_was_read_in_the_zygote_holds_in_its_children(tmp_path: Path, policy: str) -> None:
    """Else the first job of each would be blamed for what its child's birth has changed."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _UNCHANGED), policy=policy) as caller:
            assert await caller.value(None) == []

    run_async(main())


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="code is not moved there")
def test_code_that_children_run_shares_pages() -> None:
    """Spread over the modules it came with, it is 0.2 MB more of each child."""
    done = subprocess.run(
        [sys.executable, "-c", _GATHERED], capture_output=True, check=True, text=True
    )
    before, after = map(int, done.stdout.split())
    assert after < before * 0.7


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="others count references otherwise")
def test_memory_that_is_a_childs_own(tmp_path: Path) -> None:
    """Most of it are pages of the zygote that a start, a job and a look have written to."""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, _WEIGHED), policy="limits") as caller:
            sizes = [await caller.value(None) for _ in range(20)]
        assert sizes[-1] < _MOST_PRIVATE

    run_async(main())
