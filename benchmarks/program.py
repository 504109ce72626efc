"""Runs a measured part as a program of its own: JSON in, one line of JSON out.

A measured process starts fresh: no imports, no garbage and no event loop of the run before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
LONGEST_SECONDS = 900
# How long two programs take at most until both are ready.
START_SECONDS = 2.5


def task(name: str) -> str:
    """Return the path of a processor in ``tasks/``."""
    return str(Path(__file__).with_name("tasks") / f"{name}.py")


def run(module: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Run ``benchmarks.<module>`` and return what it found."""
    return finish(start(module, spec))


def start(module: str, spec: dict[str, Any]) -> subprocess.Popen[str]:
    """Start ``benchmarks.<module>`` with ``spec`` on its standard input."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}"],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    process.stdin.write(json.dumps(spec))
    process.stdin.close()
    process.stdin = None
    return process


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a program; return the last line that it printed."""
    output, _ = process.communicate(timeout=LONGEST_SECONDS)
    if process.returncode:
        message = f"a measured program left with exit code {process.returncode}"
        raise SystemExit(message)
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def wait_for_line(process: subprocess.Popen[str]) -> str:
    """Wait until a program says something, and return it."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    line = process.stdout.readline()
    if not line:
        message = "a measured program ended before it was ready"
        raise SystemExit(message)
    return line.strip()


def soon() -> float:
    """Return a time of CLOCK_MONOTONIC at which programs started now can begin together."""
    return time.monotonic() + START_SECONDS
