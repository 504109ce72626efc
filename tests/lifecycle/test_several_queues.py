"""``run`` with several queues: processors, tables of pyproject.toml, tasks of several queues."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from sandboxq import Queue
from sandboxq.cli.main import cli
from tests.conftest import wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)

PROCESSOR = "def process(job):\n    print('ran', job.id)\n    return {value!r}\n"
TABLES = """
[tool.sandboxq.workers.first]
processor = "one.py"
weight = 2
[tool.sandboxq.workers.other]
queue = "second"
processor = "two.py"
procs = 1
timeout = 7.5
[tool.sandboxq.workers.third]
max-crashes = 2
"""
TASKS = """
from sandboxq import task

@task(queue="left")
def one() -> str:
    return "one"

@task(queue="right")
def two() -> str:
    return "two"
"""


def sandboxq(
    folder: Path, url: str, prefix: str, *arguments: str, log: Any = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start the command in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "sandboxq", "run", *arguments],
        cwd=folder,
        env={**os.environ, "SANDBOXQ_URL": url, "SANDBOXQ_PREFIX": prefix},
        stderr=log,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for its end; return exit code and log."""
    _, log = process.communicate(timeout=120)
    return process.returncode, log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two processors and tables for them."""
    (tmp_path / "one.py").write_text(PROCESSOR.format(value="one"))
    (tmp_path / "two.py").write_text(PROCESSOR.format(value="two"))
    (tmp_path / "pyproject.toml").write_text(TABLES)
    return tmp_path


def test_tables_without_an_argument(folder: Path, server_url: str, queue_name: str) -> None:
    """All tables with a processor are run, each by its settings; lines of the log name the queue.

    One SIGTERM ends them all.
    """
    process = sandboxq(folder, server_url, queue_name, "--procs", "4", "--log-format", "json")
    try:
        for queue, value in (("first", "one"), ("second", "two")):
            with Queue.sync(queue, server_url, prefix=queue_name) as opened:
                assert opened.add("x", {}).result(60) == value
        process.send_signal(signal.SIGTERM)
        code, log = ended(process)
    finally:
        process.kill()
    rows = [json.loads(line) for line in log.splitlines()]
    said = [row["message"] for row in rows]
    assert code == 0, log
    assert any("first: one.py, 3 processes" in each for each in said)
    assert any("second: two.py, 1 process x" in each and "7.5 s a job" in each for each in said)
    assert {row["queue"] for row in rows if row.get("event") == "line"} == {"first", "second"}
    assert len([each for each in said if "no new jobs" in each]) == 1


def test_processors_and_one_that_breaks(folder: Path, server_url: str, queue_name: str) -> None:
    """The others go on, and the exit code says that not all did."""
    (folder / "broken.py").write_text("import no_such_module\n")
    with Queue.sync("two", server_url, prefix=queue_name) as queue:
        job = queue.add("x", {})
        process = sandboxq(folder, server_url, queue_name, "broken.py", "two.py", "--burst")
        code, log = ended(process)
        assert code == 7, log
        assert job.result(5) == "two"
    assert "queue broken is not served: broken.py cannot be imported" in log
    assert "two: [job 1] ran 1" in log


def test_one_that_could_not_start_is_tried_again(
    folder: Path, server_url: str, queue_name: str
) -> None:
    """When it can start it is served; the other queue, and who asks by HTTP, see both states."""
    code = "import pathlib\npathlib.Path('there').read_text()\n" + PROCESSOR.format(value="late")
    (folder / "late.py").write_text(code)
    path = folder / "log"
    with path.open("w") as file:
        words = ("late.py", "two.py", "--http", "0")
        process = sandboxq(folder, server_url, queue_name, *words, log=file)
    try:
        with (
            Queue.sync("two", server_url, prefix=queue_name) as two,
            Queue.sync("late", server_url, prefix=queue_name) as late,
        ):
            job = late.add("x", {})
            assert two.add("x", {}).result(60) == "two"
            found = re.search(r"http://[\d.:]+", path.read_text())
            assert found
            assert readiness(found[0]) == {"late": False, "two": True}
            (folder / "there").touch()
            assert job.result(60) == "late"
            wait_until(lambda: readiness(found[0]) == {"late": True, "two": True})
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert "queue late is tried again in 5 s" in path.read_text()
    assert "queue late is served now" in path.read_text()


def readiness(address: str) -> dict[str, bool]:
    """Return which queues are ready."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=30) as answer:  # noqa: S310 - ours
            text = answer.read()
    except urllib.error.HTTPError as error:
        text = error.read()
    return {row["queue"]: row["ready"] for row in json.loads(text)["workers"]}


def test_tasks_of_several_queues(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """A module of tasks is one worker for each of their queues."""
    (tmp_path / "tasks.py").write_text(TASKS)
    with (
        Queue.sync("left", server_url, prefix=queue_name) as left,
        Queue.sync("right", server_url, prefix=queue_name) as right,
    ):
        jobs = [left.add("one", {}), right.add("two", {})]
        code, log = ended(sandboxq(tmp_path, server_url, queue_name, "tasks.py", "--burst"))
        assert code == 0, log
        assert [job.result(5) for job in jobs] == ["one", "two"]


def test_one_processor_of_several_queues(folder: Path, server_url: str, queue_name: str) -> None:
    """--queue may be repeated, as Django and Flask do; a table holds for its queue all the same."""
    queues = [Queue.sync(name, server_url, prefix=queue_name) for name in ("first", "third")]
    jobs = [queue.add("x", {}) for queue in queues]
    arguments = ("two.py", "--queue", "first", "--queue", "third", "--procs", "5", "--burst")
    code, log = ended(sandboxq(folder, server_url, queue_name, *arguments))
    assert code == 0, log
    assert [job.result(5) for job in jobs] == ["two", "two"]
    assert "first: two.py, 3 processes" in log
    assert "third: two.py, 2 processes" in log
    for queue in queues:
        queue.close()


@pytest.mark.slow
def test_reload_of_one_of_two(folder: Path, server_url: str, queue_name: str) -> None:
    """The queue whose folder has changed gets the new code."""
    pytest.importorskip("watchfiles")
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / f"{name}.py").rename(folder / name / f"{name}.py")
    process = sandboxq(folder, server_url, queue_name, "one/one.py", "two/two.py", "--reload")
    try:
        with Queue.sync("two", server_url, prefix=queue_name) as queue:
            assert queue.add("x", {}).result(60) == "two"
            (folder / "two" / "two.py").write_text(PROCESSOR.format(value="new"))
            wait_until(lambda: queue.add("x", {}).result(60) == "new")
        process.send_signal(signal.SIGTERM)
        code, log = ended(process)
    finally:
        process.kill()
    assert code == 0, log
    assert "runs one/one.py" in log


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        ("", [], "name a processor"),
        ("", ["one.py", "./one.py"], "would both serve the queue 'one'"),
        ("", ["one.py", "two.py", "--queue", "x"], "--queue is for one processor"),
        ("[tool.sandboxq.workers.a]\nwieght = 2", ["a.py"], "did you mean 'weight'"),
        ("[tool.sandboxq.workers.a]\nweight = 0", ["a.py"], "weight must be a number above 0"),
        ("[tool.sandboxq.workers.a]\nmin = 100000", ["a.py"], "min must be between 1 and 10000"),
        ("[tool.sandboxq.workers.a]\nprocessor = 3", ["a.py"], "processor must be text"),
        ("[tool.sandboxq.workers.a]\ntimeout = 'x'", ["a.py"], "[tool.sandboxq.workers.a]: Inv"),
        ("[tool.sandboxq.workers.a]\nhttp = '1'", ["a.py"], "has no setting 'http'"),
        ("[tool.sandboxq]\nworkers = 4", ["a.py"], "[tool.sandboxq.workers] must be a table"),
        (
            "[tool.sandboxq.workers.a]\n[tool.sandboxq.workers.b]\nqueue = 'a'",
            ["a.py"],
            "are both of queue 'a'",
        ),
    ],
)
def test_what_makes_no_sense(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    arguments: list[str],
    says: str,
) -> None:
    """It is said at once, with the table and the setting."""
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["run", *arguments])
    assert done.exit_code == 2, done.output
    assert says in done.output
