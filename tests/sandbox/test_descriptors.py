"""How many children there can be is not settled by the usual soft limit of open files."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.pool.caller import processor_file

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM = """
import asyncio, resource, sys
from sandboxq.errors import SandboxqError
from tests.pool.caller import open_pool

async def main(path, size):
    async with open_pool(path, size=2) as caller:
        await caller.pool.resize(size)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        print(len(caller.pool.pids), await caller.value(), limit)

try:
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
except SandboxqError as error:
    print(type(error).__name__, error)
"""
_HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _run(folder: Path, children: int, *, soft: int, hard: int) -> str:
    path = processor_file(folder, "def process(job): return 'ran'\n")
    command = [sys.executable, "-c", textwrap.dedent(_PROGRAM), str(path), str(children)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
        preexec_fn=limit,
    )
    return done.stdout + done.stderr


@pytest.mark.skipif(_HARD < 4096, reason="the hard limit of this machine is too low")
def test_the_soft_limit_is_raised_to_what_is_needed(tmp_path: Path) -> None:
    """Ten children do not fit into 100 files; the hard limit stays as it is."""
    said = _run(tmp_path, 10, soft=100, hard=4096)
    assert said.startswith("10 ran ("), said
    soft, hard = eval(said.removeprefix("10 ran "))  # noqa: S307 - a tuple that the program printed
    assert 100 < soft < 1024
    assert hard == 4096


def test_a_hard_limit_that_is_too_low_is_said(tmp_path: Path) -> None:
    """With how many are needed, and how many children are possible."""
    said = _run(tmp_path, 30, soft=100, hard=200)
    assert said.startswith("ChildStartFailed 28 children more need 448 open files"), said
    assert "hard limit is 200" in said
    assert "at most" in said
