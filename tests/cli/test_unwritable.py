"""Output of short commands that cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import IO

FULL = "/dev/full"


def run(*words: str, stdout: IO[str] | int, stderr: IO[str] | int) -> tuple[int, str]:
    """Run a command and return its exit code and what it says on stderr."""
    words = (sys.executable, "-m", "sandboxq", *words)
    done = subprocess.run(words, check=False, stdout=stdout, stderr=stderr, text=True)
    return done.returncode, done.stderr or ""


@pytest.mark.parametrize("words", ["--version", "add {} x"])
def test_a_full_disk_is_one_line(server_url: str, queue_name: str, words: str) -> None:
    """No traceback, whichever command prints, and no second complaint as the interpreter ends."""
    arguments = [word.format(queue_name) for word in words.split()]
    if "{}" in words:
        arguments += ["--url", server_url]
    with Path(FULL).open("w") as full:
        code, said = run(*arguments, stdout=full, stderr=subprocess.PIPE)
    assert (code, said) == (
        1,
        "sandboxq: the output could not be written: No space left on device\n",
    )


def test_who_reads_errors_changes_no_exit_code(tmp_path: Path) -> None:
    """Nobody listens on this socket: that is 4, whether or not it can be said."""
    with Path(FULL).open("w") as full:
        url = f"unix://{tmp_path}/nobody"
        code, _ = run("stats", "--url", url, stdout=subprocess.DEVNULL, stderr=full)
    assert code == 4
