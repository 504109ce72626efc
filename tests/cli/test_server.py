"""``python -m sandboxq server`` as people run it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sandboxq.broker.embedded.server import stop_server
from sandboxq.cli.server import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """Return a directory to work in; its server is stopped after the test."""
    yield tmp_path
    stop_server(tmp_path / ".sandboxq")


def server(project: Path, *arguments: str, code: int = 0) -> str:
    """Run the command in the directory and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "sandboxq", "server", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_start_status_stop(project: Path) -> None:
    """The three commands are the whole handling of the server, so each must say what it did."""
    assert server(project, "status").startswith("not running")
    assert "kept until" in server(project, "start")

    status = json.loads(server(project, "status", "--json"))
    assert status["running"]
    assert status["socket"] == str(project / ".sandboxq" / "valkey.sock")
    assert f"pid     {status['pid']}" in server(project, "status")

    assert server(project, "stop").startswith("stopped; ")
    assert server(project, "stop") == "not running\n"
    assert not json.loads(server(project, "status", "--json"))["running"]


def test_a_start_that_fails_is_exit_code_4(project: Path) -> None:
    """Scripts tell an absent Redis by this code."""
    (project / ".sandboxq").write_text("a file is in the way")

    assert "--url" in server(project, "start", code=4)
    (project / ".sandboxq").unlink()


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 * 1024**2, "5.0 MiB"),
        (2**40, "1024.0 GiB"),
    ],
)
def test_sizes_are_readable(size: int, text: str) -> None:
    """Nobody reads nine digits of bytes."""
    assert size_text(size) == text
