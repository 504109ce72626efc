"""What is printed of a failed job: class, message, job, queue, attempt and trace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.commands import run_command
from tests.conftest import wait_until
from tests.lifecycle.test_run import RunningWorker

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

_PROCESSOR = """
def look_up(data):
    try:
        return data["b"]
    except KeyError as error:
        raise LookupError("no entry") from error

def process(job):
    if job.name == "ours":
        job.update_progress(object())
    if job.name == "exit":
        import os
        os._exit(3)
    if job.name == "grouped":
        raise ExceptionGroup("two", [ValueError("first"), KeyError("second")])
    if job.name == "from":
        look_up(job.data)
    return job.data["b"]
"""


@pytest.fixture
def processor(tmp_path: Path) -> str:
    """Return the path of a processor that fails in several ways."""
    path = tmp_path / "fails.py"
    path.write_text(_PROCESSOR)
    return str(path)


@pytest.fixture
def worker(
    server_url: str, queue_name: str, processor: str, request: pytest.FixtureRequest
) -> Iterator[RunningWorker]:
    """Run a worker with a log of the kind that the test asks for."""
    options = ("--procs", "1", "--log-format", getattr(request, "param", "text"))
    running = RunningWorker(server_url, queue_name, *options, processor=processor)
    yield running
    running.process.kill()
    running.wait()
    assert running.process.stdout is not None
    running.process.stdout.close()


def _command(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, "--url", url)


def _fail(url: str, queue: str, name: str) -> str:
    waited = _command(url, "add", queue, name, "--attempts", "2", "--wait", "--wait-timeout", "50")
    assert waited.returncode == 1
    return waited.stderr


def test_what_add_wait_and_jobs_say(
    worker: RunningWorker, server_url: str, queue_name: str, processor: str
) -> None:
    """A message of one letter is no riddle: class, job, queue, attempt and the line are told."""
    said = _fail(server_url, queue_name, "plain")
    assert f"sandboxq: KeyError: 'b' (job 1 of queue {queue_name!r}, attempt 2)" in said
    assert f'  File "{processor}", line 18, in process' in said
    assert "/sandboxq/" not in said.replace(processor, "")
    listed = _command(server_url, "jobs", queue_name, "failed").stdout
    assert "KeyError: 'b'" in listed
    one = _command(server_url, "jobs", queue_name, "--id", "1").stdout
    for part in ("KeyError", queue_name, f'"{processor}", line 18', "attempts_made"):
        assert part in one
    assert one.count("\n\n  Traceback") == 1  # two attempts, told apart
    assert "JobExited: child " in _fail(server_url, queue_name, "exit")
    assert worker.process.poll() is None


def test_the_log_in_text(
    worker: RunningWorker, server_url: str, queue_name: str, processor: str
) -> None:
    """Each attempt has a line that says which it was, and its trace below."""
    for name in ("plain", "from", "ours", "grouped"):
        _fail(server_url, queue_name, name)
    wait_until(lambda: worker.text.count("job 4 (grouped)") == 2)
    wait_until(lambda: worker.text.count("KeyError: 'second'") == 2)
    text, head = worker.text, f"job 1 (plain) of queue {queue_name!r} failed"
    assert f"{head} and tries again now, attempt 1 of 2," in text
    assert f"{head} for good, attempt 2 of 2," in text
    assert "s: KeyError: 'b'\n  Traceback (most recent call last):\n    File " in text
    assert "direct cause of the following exception" in text
    assert f'File "{processor}", line 10, in process' in text
    assert "/sandboxq/child/" not in text


def test_a_retry_by_hand_is_one_attempt_more(
    worker: RunningWorker, server_url: str, queue_name: str
) -> None:
    """Nobody reads "attempt 3 of 2"."""
    _fail(server_url, queue_name, "plain")
    assert _command(server_url, "retry", queue_name).returncode == 0
    wait_until(lambda: worker.text.count("for good, attempt") == 2)
    assert "for good, attempt 2 of 2," in worker.text
    assert "for good, attempt 3 of 3," in worker.text


@pytest.mark.parametrize("worker", ["json"], indirect=True)
def test_the_log_in_json(worker: RunningWorker, server_url: str, queue_name: str) -> None:
    """Each part is a field of its own."""
    _fail(server_url, queue_name, "plain")
    wait_until(lambda: sum("attempt-failed" in line for line in worker.lines) == 2)
    rows = [json.loads(line) for line in worker.lines if "attempt-failed" in line]
    wanted = {
        "event": "attempt-failed", "job_id": "1", "name": "plain", "queue": queue_name,
        "attempt": 2, "attempts": 2, "cause": "KeyError", "reason": "'b'", "next_step": "for good",
    }  # fmt: skip
    assert {name: rows[1][name] for name in wanted} == wanted
    assert rows[1]["stack"].startswith("Traceback (most recent call last):\n")
    assert rows[1]["stack"].endswith("KeyError: 'b'")
    assert "\n" not in rows[1]["message"]


def test_a_trace_without_a_line_of_code_is_left_out(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """It would say once more what the line before it has said, as of arguments that do not fit."""
    path = tmp_path / "typed.py"
    path.write_text(f"from sandboxq import task\n@task(queue={queue_name!r})\ndef f(n: int): ...\n")
    running = RunningWorker(server_url, queue_name, processor=str(path))
    try:
        done = run_command("add", queue_name, "f", '{"n": "x"}', "--wait", "--url", server_url)
        wait_until(lambda: "failed for good" in running.text)
    finally:
        running.process.kill()
        running.wait()
        assert running.process.stdout is not None
        running.process.stdout.close()
    assert done.stderr.count("argument n must be int, not 'x'") == 1, done.stderr
    assert running.text.count("argument n must be int, not 'x'") == 1, running.text
