"""A real Django project, the example, with its test client and a real worker."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "django_run" / "django_project.py"


@pytest.mark.skipif(find_spec("django") is None, reason="Django is not installed")
@pytest.mark.timeout(300)
def test_a_project(tmp_path: Path) -> None:
    """In a process of its own: settings are for good. The Django of this environment is used."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SANDBOXQ_", "DJANGO_")) and name != "REDIS_URL"
    }
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr[-8000:]
    assert "all checked with Django" in done.stdout
