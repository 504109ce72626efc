"""Processors by every name, with both spellings of the command, and what is said of a wrong one."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxq import Queue
from sandboxq.child.sources import missing_text
from sandboxq.cli.task_queues import queue_from_processor
from tests.conftest import run_async

# A virtual environment's scripts are beside its interpreter.
_SCRIPT = [str(Path(sys.executable).parent / "sandboxq")]
_MODULE = [sys.executable, "-m", "sandboxq"]
# Python itself imports types for `-m`, before any code of ours.
_NAMES = (
    *("email", "queue", "redis", "json", "logging", "select", "click", "numpy", "calendar"),
    *("threading", "__future__"),
)
_PROCESSOR = """
import email.message, json, logging, queue, random, select, smtplib, subprocess
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import beside

def double(number):
    return 2 * number

def process(job):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [beside.VALUE, pool.submit(double, 21).result(), job.id]
"""


def _run(command: list[str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


@pytest.mark.parametrize(
    ("processor", "queue"),
    [
        ("resize.py", "resize"), ("work/resize.py", "resize"), ("resize.py:main", "resize"),
        ("./resize:main", "resize"), ("app.resize:main", "resize"), ("resize", "resize"),
    ],
)  # fmt: skip
def test_the_queue_has_the_name_of_the_file_or_module(processor: str, queue: str) -> None:
    """Whether a function is named or not."""
    assert queue_from_processor(processor) == queue


def _fill(folder: Path, names: tuple[str, ...]) -> None:
    (folder / "beside.py").write_text("VALUE = 'mine'\n")
    for name in names:
        (folder / f"{name}.py").write_text(_PROCESSOR)


@pytest.mark.parametrize(
    ("command", "name"),
    [(_MODULE, "email"), (_MODULE, "redis"), (_SCRIPT, "types"), (_SCRIPT, "queue")],
)
def test_names_of_other_modules(
    server_url: str, queue_name: str, tmp_path: Path, command: list[str], name: str
) -> None:
    """A folder full of them takes the place of no modules, in what a job starts neither."""
    _fill(tmp_path, (*_NAMES, "types") if command is _SCRIPT else _NAMES)
    options = ("--queue", queue_name, "--procs", "1", "--url", server_url)

    async def added() -> str:
        async with Queue(queue_name, server_url) as queue:
            return (await queue.add("n", {})).id

    async def value(job_id: str) -> object:
        async with Queue(queue_name, server_url) as queue:
            job = await queue.read_job(job_id)
            return job.returnvalue or job.stacktrace

    job_id = run_async(added())
    done = _run(command, tmp_path, "run", f"{name}.py", "--burst", *options)
    assert done.returncode == 0, done.stderr
    assert run_async(value(job_id)) == ["mine", 42, job_id]
    told = _run(command, tmp_path, "stats", queue_name, "--url", server_url)
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("command", [_MODULE, _SCRIPT])
@pytest.mark.parametrize("processor", ["ok", "app.tasks", "app/plain.py"])
def test_both_spellings_find_the_same(
    server_url: str, queue_name: str, tmp_path: Path, command: list[str], processor: str
) -> None:
    """Modules in the current directory, with relative imports, as by `python -m`."""
    (tmp_path / "ok.py").write_text("def process(job): ...\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    (tmp_path / "app" / "part.py").write_text("VALUE = 3\n")
    (tmp_path / "app" / "tasks.py").write_text("from .part import VALUE\ndef process(job): ...\n")
    (tmp_path / "app" / "plain.py").write_text("from part import VALUE\ndef process(job): ...\n")
    options = ("--queue", queue_name, "--procs", "1", "--url", server_url, "--burst")
    done = _run(command, tmp_path, "run", processor, *options)
    assert done.returncode == 0, done.stderr


def test_of_many_files_some_are_named(tmp_path: Path) -> None:
    """Whoever misses a file of theirs is told that there are more."""
    for number in range(7):
        (tmp_path / f"p{number}.py").touch()
    assert missing_text(str(tmp_path)).endswith("p4.py and 2 more")


def test_what_is_said_of_a_wrong_name(server_url: str, tmp_path: Path) -> None:
    """What may have been meant; no frame of ours or of importlib, and nothing twice.

    Both spellings of the command say the same: they take turns.
    """
    commands = itertools.cycle([_MODULE, _SCRIPT])
    (tmp_path / "ok.py").write_text("def process(job): ...\n")
    (tmp_path / "bad.py").write_text("import not_there\n")
    (tmp_path / "email.py").write_text("def process(job): ...\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").touch()
    (tmp_path / "app" / "tasks.py").write_text("from . import part\n")
    for processor, words in {
        "okk": "there is no module 'okk' on the path; did you mean ok.py?",
        "okk.py": "okk.py does not exist; did you mean ok.py?",
        ".": ". is a directory: name a file in it, or package.module; there are bad.py, email.py",
        "app/": "app/ is a directory: name a file in it, or package.module; there are app/tasks.py",
        "app/tasks.py": "it is part of a package: run app.tasks",
        "nowhere.tasks": "there is no module 'nowhere.tasks' on the path",
        "email": "by `@task(queue=…)`; or did you mean email",
    }.items():
        arguments = ("run", processor, "--procs", "1", "--url", server_url)
        done = _run(next(commands), tmp_path, *arguments)
        assert done.returncode == 3, (processor, done.stderr)
        assert words in done.stderr
        assert "importlib" not in done.stderr
    for command in (_MODULE, _SCRIPT):
        done = _run(command, tmp_path, "run", "bad.py", "--procs", "1", "--url", server_url)
        assert done.stderr.count("No module named 'not_there'") == 1
        assert f'File "{tmp_path / "bad.py"}", line 1' in done.stderr


@pytest.mark.parametrize("kind", ["pipe", "device", "circle"])
def test_what_is_no_file_is_refused_at_once(server_url: str, tmp_path: Path, kind: str) -> None:
    """It was waited for without a word, or read without end."""
    place = tmp_path / "odd.py"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero" if kind == "device" else place)
    done = _run(_MODULE, tmp_path, "run", "odd.py", "--burst", "--url", server_url)
    assert done.returncode == 3, done.stderr
    said = "odd.py does not exist" if kind == "circle" else "odd.py is not a file"
    assert done.stderr.strip().endswith(said), done.stderr
