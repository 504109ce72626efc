"""A policy that cannot be enforced: the command leaves with 6 and says what would help."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.errors import ChildStartFailed
from sandboxq.sandbox.mechanisms.syscalls import number_of
from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

# A kernel without one system call: here a filter says "not implemented" (ENOSYS) instead of it.
_WITHOUT = """
import ctypes, runpy, struct, sys
number = int(sys.argv.pop(1))
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50026), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
libc = ctypes.CDLL(None, use_errno=True)
zero = ctypes.c_ulong(0)
assert libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero) == 0
program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
assert libc.prctl(22, ctypes.c_ulong(2), program, zero, zero) == 0
runpy.run_module("sandboxq", run_name="__main__", alter_sys=True)
"""
_LANDLOCK_CREATE_RULESET = 444
_NOTHING = "def process(job):\n    return None\n"


def _run(*words: str, url: str, without: int | None = None) -> Any:
    start = ["-m", "sandboxq"] if without is None else ["-c", _WITHOUT, str(without)]
    command = [sys.executable, *start, "run", *words, "--burst", "--procs=1"]
    environment = {**os.environ, "SANDBOXQ_URL": url}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def test_kernel_without_landlock(server_url: str, tmp_path: Path) -> None:
    """`strict` is refused, and `limits` does not miss it."""
    path = str(processor_file(tmp_path, _NOTHING))
    done = _run(path, "--policy=strict", url=server_url, without=_LANDLOCK_CREATE_RULESET)
    assert done.returncode == 6, done.stderr
    assert "CONFIG_SECURITY_LANDLOCK" in done.stderr
    done = _run(path, "--policy=limits", url=server_url, without=_LANDLOCK_CREATE_RULESET)
    assert done.returncode == 0, done.stderr


def test_kernel_that_refuses_filters(server_url: str, tmp_path: Path) -> None:
    """It is found out by the first child: no child runs with less than it should have."""
    path = str(processor_file(tmp_path, _NOTHING))
    number = number_of("seccomp", os.uname().machine)
    done = _run(path, "--policy=strict", url=server_url, without=number)
    assert done.returncode == 6, done.stderr
    assert "the kernel refused seccomp" in done.stderr


def test_grant_of_what_is_not_there(server_url: str, tmp_path: Path) -> None:
    """A path with a slip in it would be a job that fails, much later."""
    path = str(processor_file(tmp_path, _NOTHING))
    done = _run(path, "--policy=strict", "--read=/no/where", url=server_url)
    assert done.returncode == 6, done.stderr
    assert "the policy grants /no/where, which cannot be opened" in done.stderr


def test_strict_with_a_processor_that_starts_threads(tmp_path: Path) -> None:
    """It is imported in each child, under the policy, which grants it its sources."""
    text = """
import threading, time
import beside
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
def process(job):
    try: open("/etc/passwd")
    except PermissionError: return beside.WORD
"""
    (tmp_path / "beside.py").write_text("WORD = 'kept out'")
    path = processor_file(tmp_path, text)

    async def main() -> None:
        async with open_pool(path, policy="strict") as caller:
            assert not caller.pool.is_preloaded
            assert await caller.value() == "kept out"

    run_async(main())


def test_strict_with_a_processor_that_imports_what_is_not_granted(tmp_path: Path) -> None:
    """The worker does not start, and the text names the file."""
    text = """
import threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
open("/etc/passwd")
def process(job): pass
"""

    async def main() -> None:
        async with open_pool(processor_file(tmp_path, text), policy=Policy("strict")):
            pass

    with pytest.raises(ChildStartFailed, match="/etc/passwd"):
        run_async(main())
