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


@pytest.mark.skipif(find_spec("django") is None, reason="Django is not installed")
def test_check_reads_tasks_that_nothing_has_imported(tmp_path: Path) -> None:
    """A project is checked before its first view imports a task."""
    (tmp_path / "odd.py").write_text(
        'SECRET_KEY = "x"\n'
        'INSTALLED_APPS = ["sandboxq.integrations.django"]\n'
        'BACKEND = "sandboxq.integrations.django.Backend"\n'
        'TASKS = {"default": {"BACKEND": BACKEND, "OPTIONS": {"timeuot": 60}}}\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "django", "check", "--settings", "odd", "--pythonpath", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout
    assert "(sandboxq.E001) TASKS['default']: OPTIONS: add has no option 'timeuot'" in done.stderr
