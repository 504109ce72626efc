"""Wheel and sdist, as somebody gets them who has no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import sandboxq
from tests.docs.pages import ROOT

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
INSTALL_SECONDS = 240

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program that must succeed; return what it printed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build wheel and sdist from what is committed and what is not."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    return sorted(folder.iterdir())


def interpreter(version: str) -> str:
    """Return a Python of this version that can install packages, or skip."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *pyenv.glob(f"{version}.*/bin/python3")]
    more = os.environ.get("SANDBOXQ_TEST_PYTHONS", "").split(os.pathsep)
    for each in [*found, *(path for path in more if path)]:
        if each is None:
            continue
        asked = [str(each), "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False)
        if said.stdout.strip() == version:
            return str(each)
    pytest.skip(f"there is no Python {version} here")


def with_pip(base: str) -> str:
    """Return an interpreter that has pip, the first choice being the one that is tried, or skip."""
    for each in (base, sys.executable, getattr(sys, "_base_executable", None), "python3"):
        asked = [each or sys.executable, "-m", "pip", "--version"]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return asked[0]
    pytest.skip("there is no pip here")


def test_an_index_would_take_them(packages: list[Path]) -> None:
    """Names, version, metadata and the long description."""
    version = sandboxq.__version__
    assert [path.name for path in packages] == [
        f"sandboxq-{version}-py3-none-any.whl",
        f"sandboxq-{version}.tar.gz",
    ]
    run(sys.executable, "-m", "twine", "check", "--strict", *packages, cwd=ROOT)


def test_they_contain_what_they_need_and_no_more(packages: list[Path]) -> None:
    """Scripts for Redis and ready-made processors travel along, tests and results do not."""
    wheel, sdist = packages
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = [path for path in (ROOT / "sandboxq").rglob("*") if path.is_file()]
    kept = {path.relative_to(ROOT).as_posix() for path in sources if path.suffix != ".pyc"}
    assert kept <= names
    assert "sandboxq/_processors/resize.py" in names
    assert {name.partition("/")[0] for name in names} == {
        "sandboxq",
        f"sandboxq-{sandboxq.__version__}.dist-info",
    }
    with tarfile.open(sdist) as archive:
        folders = {Path(name).parts[1] for name in archive.getnames() if "/" in name}
    assert {"sandboxq", "processors", "tests", "README.md", "LICENSE"} <= folders
    assert not {".ci", ".github", ".venv", ".sandboxq"} & folders


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stranger_installs_the_wheel_and_runs_a_job(
    packages: list[Path], tmp_path: Path, version: str
) -> None:
    """In an environment and a directory with nothing of ours; the embedded server runs."""
    wheel = packages[0]
    base = interpreter(version)
    run(base, "-m", "venv", "--without-pip", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    run(with_pip(base), "-m", "pip", "--python", python, "install", "-q", wheel, cwd=tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    command = tmp_path / "env" / "bin" / "sandboxq"
    no_redis = {"SANDBOXQ_URL": "", "REDIS_URL": ""}

    assert sandboxq.__version__ in run(command, "--version", cwd=project)
    run(command, "init", cwd=project)
    added = ["add", "greet", "first", '{"name": "Ann"}']
    run(python, "-m", "sandboxq", *added, cwd=project, **no_redis)
    run(command, "run", "greet.py", "--burst", "--procs", "1", cwd=project, **no_redis)
    shown = run(command, "jobs", "greet", "--id", "1", cwd=project, **no_redis)

    assert "hello Ann" in shown
    run(command, "server", "stop", cwd=project, **no_redis)


def test_the_sdist_builds_the_same_wheel(packages: list[Path], tmp_path: Path) -> None:
    """Whoever packages it for a distribution starts from there."""
    wheel, sdist = packages
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=source)
    again = zipfile.ZipFile(tmp_path / wheel.name)
    assert set(again.namelist()) == set(zipfile.ZipFile(wheel).namelist())
