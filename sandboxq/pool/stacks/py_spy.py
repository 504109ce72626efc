"""py-spy, where it is installed: reads the stack of a process that answers nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

_SECONDS = 1.0


def find() -> str | None:
    """Return the path of the program, beside this interpreter or on the path."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return shutil.which("py-spy", path=os.pathsep.join(folders))


async def read_stack(program: str, pid: int) -> str:
    """Return the stacks of a process, which is not stopped for it; empty when they cannot be read.

    The kernel refuses where ptrace_scope is 1 or more and this user is not root.
    """
    command = [program, "dump", "--nonblocking", "--pid", str(pid)]
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            check=False,
            env={},  # no password of Redis
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.rstrip() if done.returncode == 0 else ""
