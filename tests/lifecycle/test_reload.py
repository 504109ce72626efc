"""``run --reload``: changed code is loaded without losing jobs; broken code is not taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from sandboxq import Queue
from tests.conftest import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("watchfiles")

ANSWERS = "def process(job):\n    return {value}\n"


@contextmanager
def reloading(
    folder: Path, url: str, queue: str, *arguments: str, processor: str = "answering.py"
) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a folder; its log is ``log`` there. SIGINT ends it, with exit code 0."""
    command = [sys.executable, "-m", "sandboxq", "run", processor, "--reload", "--procs", "1"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--queue", queue, "--url", url, *arguments],
            cwd=folder,
            stderr=log,
            text=True,
        )
        try:
            wait_until(lambda: says(folder, "runs "))
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(60) == 0
            finally:
                process.kill()
    assert "was never retrieved" not in (folder / "log").read_text()
    assert "was destroyed" not in (folder / "log").read_text()


def says(folder: Path, words: str) -> int:
    """Return how often the log says something."""
    return (folder / "log").read_text().count(words)


def test_new_code_and_broken_code(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """The new code answers soon; what does not load changes nothing and is said; then it heals."""
    path = tmp_path / "answering.py"
    path.write_text(ANSWERS.format(value=1))
    with (
        Queue.sync(queue_name, server_url) as queue,
        reloading(tmp_path, server_url, queue_name),
    ):

        def answer() -> object:
            return queue.add("ask", {}).result(timeout=60)

        assert answer() == 1
        path.write_text(ANSWERS.format(value=2))  # as long, in the same second
        wait_until(lambda: answer() == 2)

        path.write_text("def process(job:\n")
        wait_until(lambda: says(tmp_path, "the code was not taken"))
        assert says(tmp_path, "SyntaxError")
        assert answer() == 2

        path.write_text(ANSWERS.format(value=3))
        wait_until(lambda: answer() == 3)
        assert queue.counts()["failed"] == 0


def test_sighup_loads_what_is_not_watched(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """As without --reload: a file of data that the module reads is no Python file."""
    (tmp_path / "value").write_text("old")
    (tmp_path / "answering.py").write_text(
        "VALUE = open('value').read()\ndef process(job):\n    return VALUE\n"
    )
    with (
        Queue.sync(queue_name, server_url) as queue,
        reloading(tmp_path, server_url, queue_name) as process,
    ):
        assert queue.add("ask", {}).result(timeout=60) == "old"
        (tmp_path / "value").write_text("new")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: queue.add("ask", {}).result(timeout=60) == "new")
        assert says(tmp_path, "SIGHUP: loading the code anew") == 1


def test_a_running_job_ends_where_it_began(
    tmp_path: Path, server_url: str, queue_name: str
) -> None:
    """It uses one attempt, with the old code; those that wait get the new one."""
    path = tmp_path / "answering.py"
    path.write_text(
        "import os, time\n"
        "def process(job):\n"
        "    while job.name == 'long' and not os.path.exists('go'):\n"
        "        time.sleep(0.01)\n"
        "    return 'old'\n"
    )
    with (
        Queue.sync(queue_name, server_url) as queue,
        reloading(tmp_path, server_url, queue_name),
    ):
        long = queue.add("long", {})
        wait_until(lambda: long.state() == "active")
        waiting = [queue.add("short", {}) for _ in range(20)]
        path.write_text(ANSWERS.format(value="'new'"))
        assert [job.result(timeout=60) for job in waiting] == ["new"] * 20
        assert long.state() == "active"
        (tmp_path / "go").touch()
        assert long.result(timeout=60) == "old"
        assert long.refresh().attempts_started == 1


def test_a_start_with_broken_code_waits(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """As it would in the middle; and the files of a package are watched, whichever changes."""
    package = tmp_path / "app"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "answering.py").write_text(
        "from app.values import VALUE\ndef process(job): return VALUE\n"
    )
    (package / "values.py").write_text("VALUE = 1 +\n")
    command = [sys.executable, "-m", "sandboxq", "run", "app.answering", "--reload", "--procs", "1"]
    with (tmp_path / "log").open("w") as log, Queue.sync(queue_name, server_url) as queue:
        process = subprocess.Popen(
            [*command, "--queue", queue_name, "--url", server_url], cwd=tmp_path, stderr=log
        )
        try:
            wait_until(lambda: says(tmp_path, "the code was not taken"))
            (package / "values.py").write_text("VALUE = 1 + 1\n")
            assert queue.add("ask", {}).result(timeout=60) == 2
        finally:
            process.terminate()
            assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--burst",), "leave out --burst"),
        (("--reload-dir", "nowhere"), "cannot watch nowhere"),
    ],
)
def test_what_cannot_be(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """Said before anything is started."""
    (tmp_path / "answering.py").write_text(ANSWERS.format(value=1))
    command = [sys.executable, "-m", "sandboxq", "run", "answering.py", "--reload", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr
