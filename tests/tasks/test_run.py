"""``python -m sandboxq run app.tasks``: the tasks of a module, and which queue they are of."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sandboxq import Queue

if TYPE_CHECKING:
    from pathlib import Path

ONE = """
from sandboxq import task

@task(queue=QUEUE)
def double(n: int) -> int:
    return 2 * n

@task(queue=QUEUE)
def half(n: int) -> int:
    return n // 2
"""
TWO = (
    ONE
    + """
@task(queue="elsewhere")
async def third() -> None: ...
"""
)


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a worker until nothing waits."""
    command = [sys.executable, "-m", "sandboxq", "run", *arguments, "--burst", "--procs", "1"]
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=50
    )


def application(directory: Path, text: str, queue_name: str) -> None:
    """Write app/tasks.py, and app/all.py which gathers its tasks."""
    (directory / "app").mkdir()
    (directory / "app" / "__init__.py").write_text("")
    (directory / "app" / "tasks.py").write_text(text.replace("QUEUE", repr(queue_name)))
    (directory / "app" / "all.py").write_text("from app.tasks import double, half\n")


@pytest.mark.parametrize("processor", ["app.tasks", "app/tasks.py", "app.all", "app.tasks:double"])
def test_the_queue_is_that_of_the_tasks(
    tmp_path: Path, server_url: str, queue_name: str, processor: str
) -> None:
    """Nobody says it twice."""
    application(tmp_path, ONE, queue_name)
    with Queue.sync(queue_name, server_url) as queue:
        job = queue.add("double", {"n": 21})
        done = run(tmp_path, processor, "--url", server_url)
        assert done.returncode == 0, done.stderr
        assert job.result(60) == 42


def test_the_queue_is_found_beside_files_called_as_modules(
    tmp_path: Path, server_url: str, queue_name: str
) -> None:
    """What tells the queue does not take the user's json.py for Python's."""
    application(tmp_path, ONE, queue_name)
    (tmp_path / "json.py").write_text("")
    with Queue.sync(queue_name, server_url) as queue:
        job = queue.add("double", {"n": 21})
        done = run(tmp_path, "app.tasks", "--url", server_url)
        assert done.returncode == 0, done.stderr
        assert job.result(60) == 42


def test_tasks_of_one_of_several_queues(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """With --queue those of it are run; a queue that has none is refused, with those that have."""
    application(tmp_path, TWO, queue_name)
    wrong = run(tmp_path, "app.tasks", "--url", server_url, "--queue", "nowhere")
    with Queue.sync(queue_name, server_url) as queue:
        job = queue.add("half", {"n": 4})
        done = run(tmp_path, "app.tasks", "--url", server_url, "--queue", queue_name)

        assert wrong.returncode == 3
        assert f"has no task of queue 'nowhere'; it has tasks of '{queue_name}'" in wrong.stderr
        assert done.returncode == 0, done.stderr
        assert job.result(60) == 2


def test_a_module_that_does_not_import_says_so_once(tmp_path: Path, server_url: str) -> None:
    """By the worker, as for any processor."""
    (tmp_path / "broken.py").write_text("from sandboxq import task\nimport nothing_of_that_name\n")
    done = run(tmp_path, "broken.py", "--url", server_url)
    assert done.returncode == 3
    assert done.stderr.count("No module named 'nothing_of_that_name'") <= 2
