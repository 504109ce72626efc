"""Runs pytest on files that a test writes, as a user of the plugin would."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MODULE = "sandboxq.integrations.pytest"

# An environment that was made before the plugin knows nothing of its entry point.
_IS_INSTALLED = any(each.value == MODULE for each in entry_points(group="pytest11"))
_LOADED = [] if _IS_INSTALLED else ["-p", MODULE]

PROCESSOR = '''
"""Doubles a number."""
import os

seen = []


def process(job):
    seen.append(job.data)
    if job.data.get("n") is None:
        raise ValueError("no number")
    job.update_progress(50)
    return {"twice": 2 * job.data["n"], "pid": os.getpid()}
'''


def run_pytest(folder: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one test file with the plugin, in a process of its own, without this suite's settings."""
    (folder / "doubling.py").write_text(PROCESSOR)
    (folder / "test_it.py").write_text(test)
    (folder / "pytest.ini").write_text(
        "[pytest]\npythonpath = .\nfilterwarnings =\n    error\n"
        "    ignore::pytest.PytestDeprecationWarning\n"  # pytest-asyncio's, of its settings
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "SANDBOXQ_", "COV_")) and name != "REDIS_URL"
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *_LOADED, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def passed(folder: Path, test: str, *arguments: str) -> str:
    """Run tests that must pass; return what pytest printed."""
    done = run_pytest(folder, test, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
