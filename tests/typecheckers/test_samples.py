"""mypy and pyright over samples: they refuse each line marked `# wrong`, and no other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
SAMPLES = Path(__file__).parent / "samples"
NAMES = sorted(path.name for path in SAMPLES.glob("*.py"))

pytestmark = pytest.mark.timeout(300)

Lines = dict[str, set[int]]


def output_of(command: Sequence[str]) -> str:
    """Return what a checker prints; it leaves with 1 when it found something, and with 2 never."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def refused_by_mypy(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """Return the lines with errors by file, in strict mode."""
    cache = str(tmp_path_factory.mktemp("mypy"))
    options = ["--strict", "--output=json", "--config-file=", "--follow-imports=silent"]
    printed = output_of(["mypy", *options, f"--cache-dir={cache}", *map(str, paths())])
    rows = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return by_file([(row["file"], row["line"]) for row in rows if row["severity"] == "error"])


@pytest.fixture(scope="module")
def refused_by_pyright(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """Return the lines with errors by file, in pyright's own standard mode."""
    pytest.importorskip("basedpyright")
    project = tmp_path_factory.mktemp("pyright") / "pyrightconfig.json"
    settings = {"typeCheckingMode": "standard", "include": [str(SAMPLES)]}
    project.write_text(json.dumps({**settings, "extraPaths": [str(ROOT)]}))
    python = ["--pythonpath", sys.executable]
    printed = output_of(["basedpyright", "--outputjson", *python, "-p", str(project)])
    rows = json.loads(printed)["generalDiagnostics"]
    errors = [row for row in rows if row["severity"] == "error"]
    return by_file([(row["file"], row["range"]["start"]["line"] + 1) for row in errors])


def paths() -> list[Path]:
    """Return the samples."""
    return [SAMPLES / name for name in NAMES]


def by_file(rows: list[tuple[str, int]]) -> Lines:
    """Return the lines of each file, by its name."""
    found: Lines = {name: set() for name in NAMES}
    for path, line in rows:
        found[Path(path).name].add(line)
    return found


def marked(name: str) -> set[int]:
    """Return the lines that must be refused."""
    lines = (SAMPLES / name).read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}


@pytest.mark.parametrize("name", NAMES)
def test_mypy_refuses_the_wrong_lines_alone(name: str, refused_by_mypy: Lines) -> None:
    """A user with mypy sees every member, and a slip of the finger before it runs."""
    assert marked(name)
    assert refused_by_mypy[name] == marked(name)


@pytest.mark.parametrize("name", NAMES)
def test_pyright_refuses_the_wrong_lines_alone(name: str, refused_by_pyright: Lines) -> None:
    """A user with pyright, or with an editor that has it, sees the same."""
    assert refused_by_pyright[name] == marked(name)
