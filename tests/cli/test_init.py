"""``init``: files that work as they are, and nothing that was there is touched."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def sandboxq(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a directory."""
    return subprocess.run(
        [sys.executable, "-m", "sandboxq", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_what_it_writes_works(tmp_path: Path) -> None:
    """The processor runs, its test passes, mypy has nothing against it."""
    done = sandboxq(tmp_path, "init", "hello")

    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "hello.py",
        "test_hello.py",
        "pyproject.toml",
    }
    for command in (
        ["pytest", "-q", "-p", "no:cacheprovider", "test_hello.py"],
        ["mypy", "--strict", "--follow-imports=silent", "--cache-dir=/dev/null", "hello.py"],
    ):
        tried = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert tried.returncode == 0, tried.stdout + tried.stderr


def test_every_setting_it_names_is_one(tmp_path: Path) -> None:
    """Whoever takes away the # of any line has a setting that is understood."""
    sandboxq(tmp_path, "init")
    path = tmp_path / "pyproject.toml"
    text = path.read_text()
    assert tomllib.loads(text) == {"tool": {"sandboxq": {}}}
    taken = re.sub(r"^# (?=[\w-]+ = )", "", text, flags=re.MULTILINE)
    assert len(tomllib.loads(taken)["tool"]["sandboxq"]) > 8
    url = f"unix://{tmp_path}/nobody.sock"
    path.write_text(re.sub(r'^url = ".*"', f'url = "{url}"', taken, flags=re.MULTILINE))

    refused = sandboxq(tmp_path, "run", "greet.py")

    assert refused.returncode == 4, refused.stderr  # all was understood, that Redis is not there
    assert "nobody.sock" in refused.stderr


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    """Also what is no file, and a link that leads nowhere."""
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    (tmp_path / "greet.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "test_greet.py").mkdir()

    done = sandboxq(tmp_path, "init")

    assert done.returncode == 0
    assert (tmp_path / "pyproject.toml").read_text() == "[project]\nname = 'mine'\n"
    assert not (tmp_path / "nowhere.py").exists()
    assert (tmp_path / "test_greet.py").is_dir()
    for name in ("pyproject.toml", "greet.py", "test_greet.py"):
        assert f"left {name} as it is" in done.stdout
    assert "[tool.sandboxq]" in done.stdout


@pytest.mark.parametrize("name", ["../x", "a b", "class", "x.py", ""])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is written."""
    done = sandboxq(tmp_path, "init", name)
    assert done.returncode == 2
    assert "identifier" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["types", "email", "pytest", "sandboxq", "__main__", "sys"])
def test_a_name_that_hides_another_module_is_refused(name: str, tmp_path: Path) -> None:
    """With types.py or sandboxq.py in a folder no `python -m sandboxq` there works any more."""
    done = sandboxq(tmp_path, "init", name)

    assert done.returncode == 2, done.stderr
    assert "Take another NAME" in done.stderr
    assert not list(tmp_path.iterdir())
