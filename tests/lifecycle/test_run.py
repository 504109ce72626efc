"""`python -m sandboxq run` as a process: signals, deaths, exit codes, what it says."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Queue
from tests.conftest import SOON, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")


class RunningWorker:
    """A `sandboxq run` process and what it has logged."""

    def __init__(self, url: str, queue: str, *options: str, processor: str = PROCESSOR) -> None:
        """Start it."""
        command = [sys.executable, "-m", "sandboxq", "run", processor, "--queue", queue, *options]
        self.process = subprocess.Popen(
            [*command, "--url", url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        """All that was logged so far."""
        return "\n".join(self.lines)

    def wait_until_ready(self) -> None:
        """Wait for the banner."""
        wait_until(lambda: "broker " in self.text or self.process.poll() is not None)
        assert self.process.poll() is None, self.text

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the worker alone."""
        self.process.send_signal(number)

    def wait(self, timeout: float = 15) -> int:
        """Wait for its end and return the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(60)
        return code


@pytest.fixture
def workers() -> Iterator[list[RunningWorker]]:
    """Collect what a test started, and end what is left."""
    started: list[RunningWorker] = []
    yield started
    for worker in started:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()
        if worker.process.stdout:
            worker._reader.join(60)
            worker.process.stdout.close()


def start(workers: list[RunningWorker], url: str, queue: str, *options: str) -> RunningWorker:
    """Start a worker and wait until it claims."""
    worker = RunningWorker(url, queue, *options)
    workers.append(worker)
    worker.wait_until_ready()
    return worker


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def pids_in(path: Path, number: int) -> list[int]:
    """Wait for so many pids in a file."""
    return wait_until(lambda: _pids(path, number))  # type: ignore[no-any-return]


def _pids(path: Path, number: int) -> list[int]:
    with contextlib.suppress(OSError):
        pids = [int(line) for line in path.read_text().split()]
        if len(pids) >= number:
            return pids
    return []


def test_burst_runs_what_waits_and_leaves(
    workers: list[RunningWorker], server_url: str, queue_name: str
) -> None:
    """The shortest useful life: everything done, exit 0, and a summary."""
    with Queue.sync(queue_name, url=server_url) as queue:
        queue.add_bulk([("echo", {"value": 1})] * 20)
        worker = RunningWorker(server_url, queue_name, "--burst", "--procs", "2")
        workers.append(worker)
        assert worker.wait(60) == 0, worker.text
        assert queue.counts()["completed"] == 20
    assert "20 completed" in worker.text
    for word in (queue_name, PROCESSOR, "cores", "policy limits", "unix://"):
        assert word in worker.text


def test_burst_gives_up_when_every_job_ends_its_child(
    workers: list[RunningWorker], server_url: str, queue_name: str
) -> None:
    """Exit 6 once a probe has failed too: a cron job must not try for hours; the rest waits."""
    with Queue.sync(queue_name, url=server_url) as queue:
        queue.add_bulk([("exit", {"do": "exit", "code": 3})] * 20)
        worker = RunningWorker(server_url, queue_name, "--burst", "--procs", "2")
        workers.append(worker)
        assert worker.wait(60) == 6, worker.text
        counts = queue.counts()
        assert counts["active"] == 0
        assert counts["waiting"] >= 10
    assert "no job can be run" in worker.text


def test_banner_says_what_ends_jobs_and_children(
    workers: list[RunningWorker], server_url: str, queue_name: str
) -> None:
    """Whoever reads the log of a killed job finds the limit at its top."""
    options = ("--timeout", "20", "--timeout-grace", "0.5", "--max-jobs-per-child", "50")
    worker = start(workers, server_url, queue_name, *options)
    assert "timeout    20 s a job, killed 0.5 s later" in worker.text
    assert "recycling  after 50 jobs" in worker.text
    assert "memory     " in worker.text


def test_json_log_lines(workers: list[RunningWorker], server_url: str, queue_name: str) -> None:
    """Log collectors read one object a line, with the job's id where there is one."""
    with Queue.sync(queue_name, url=server_url) as queue:
        job = queue.add("fail", {"do": "fail"})
        worker = RunningWorker(server_url, queue_name, "--burst", "--log-format", "json")
        workers.append(worker)
        assert worker.wait(60) == 0, worker.text
    rows = [json.loads(line) for line in worker.lines]
    failed = next(row for row in rows if row.get("event") == "attempt-failed")
    assert (failed["job_id"], failed["reason"], failed["level"]) == (job.id, "boom", "warning")


def test_sigterm_finishes_what_runs(
    workers: list[RunningWorker], server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """A deploy lets running jobs end, claims nothing new, and exits 0."""
    with Queue.sync(queue_name, url=server_url) as queue:
        marks = tmp_path / "marks"
        running = queue.add("mark", {"do": "mark", "path": str(marks), "seconds": 1})
        worker = start(workers, server_url, queue_name, "--procs", "1")
        pids_in(marks, 1)
        waiting = queue.add("echo", {"value": 1})
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0, worker.text
        assert running.state() == "completed"
        assert waiting.state() == "waiting"
    assert "SIGTERM" in worker.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_the_import_ends_the_start(
    workers: list[RunningWorker],
    server_url: str,
    queue_name: str,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """As first process of a container a worker without a handler would ignore SIGTERM."""
    path = tmp_path / "slow.py"
    mark = tmp_path / "importing"
    path.write_text(
        f"import pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(30)\n"
        "def process(job): ...\n"
    )
    worker = RunningWorker(server_url, queue_name, processor=str(path))
    workers.append(worker)
    wait_until(mark.exists)
    worker.send(number)
    assert worker.wait(60) == 0
    assert "before the children were ready" in worker.text


def test_second_signal_hands_back_at_once(
    workers: list[RunningWorker], server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Who presses Ctrl-C twice does not want to wait, and loses nothing."""
    with Queue.sync(queue_name, url=server_url) as queue:
        marks = tmp_path / "marks"
        job = queue.add("mark", {"do": "mark", "path": str(marks), "seconds": 60})
        worker = start(workers, server_url, queue_name, "--procs", "1")
        pids_in(marks, 1)
        worker.send(signal.SIGINT)
        wait_until(lambda: "SIGINT" in worker.text)
        worker.send(signal.SIGINT)
        assert worker.wait(60) == 0, worker.text
        assert job.state() == "waiting"
        stored = queue.get_job(job.id)
        assert stored is not None
        assert stored.attempts_made == 0


def test_killed_worker_leaves_no_process_and_no_job_behind(
    workers: list[RunningWorker], server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Kill -9: children and grandchildren are gone at once, another worker takes over."""
    with Queue.sync(queue_name, url=server_url) as queue:
        pids_file, marks = tmp_path / "pids", tmp_path / "marks"
        spawn = queue.add("spawn", {"do": "spawn", "path": str(pids_file)})
        options = ("--procs", "2", "--lock-duration", "1", "--stalled-interval", "0.5")
        killed = start(workers, server_url, queue_name, *options)
        pids = pids_in(pids_file, 2)
        killed.process.kill()
        died = time.monotonic()
        wait_until(lambda: not any(is_alive(pid) for pid in pids))
        assert time.monotonic() - died < SOON  # of 300
        queue.add("mark", {"do": "mark", "path": str(marks)})
        start(workers, server_url, queue_name, *options)
        # Its lock expires, the second worker's checks find it, and it runs again.
        assert len(pids_in(pids_file, 4)) == 4
        assert spawn.state() == "active"
        stored = queue.get_job(spawn.id)
        assert stored is not None
        assert (stored.stalled_counter, stored.attempts_made) == (1, 0)


def test_killed_child_is_named(
    workers: list[RunningWorker], server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """The owner of the job reads what happened, and the job is tried again."""
    with Queue.sync(queue_name, url=server_url) as queue:
        marks = tmp_path / "marks"
        job = queue.add("mark", {"do": "mark", "path": str(marks), "seconds": 2}, attempts=2)
        worker = start(workers, server_url, queue_name, "--procs", "2")
        (pid,) = pids_in(marks, 1)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "SIGKILL" in worker.text)
        assert job.result(timeout=60) == pids_in(marks, 2)[1]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "not"),
        ("x = 1\n", "process"),
        ("process = 5\n", "process"),
        ("import no_such_module\n\ndef process(job): ...\n", "no_such_module"),
        ("def process(job:\n", "SyntaxError"),
        ("raise SystemExit(3)\n", "SystemExit"),
    ],
)
def test_processor_that_cannot_be_loaded(
    workers: list[RunningWorker],
    server_url: str,
    queue_name: str,
    tmp_path: Path,
    content: str | None,
    text: str,
) -> None:
    """Exit 3 with the reason, at once, and no restart loop."""
    path = tmp_path / "broken.py"
    if content is not None:
        path.write_text(content)
    worker = RunningWorker(server_url, queue_name, processor=str(path))
    workers.append(worker)
    assert worker.wait() == 3, worker.text
    assert text in worker.text
    assert "broken.py" in worker.text


def run_command(*arguments: str, env: dict[str, str] | None = None) -> Any:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "sandboxq", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
    )


def test_unreachable_redis_is_exit_4_without_its_password() -> None:
    """The log of a failed deploy must not publish the password."""
    url = "redis://:hunter2@127.0.0.1:1/0"
    done = run_command("run", PROCESSOR, env={"SANDBOXQ_URL": url})
    assert done.returncode == 4, done.stderr
    assert "127.0.0.1:1" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    "options",
    [("--procs", "0"), ("--procs", "many"), ("--queue", "a:b"), ("--concurrency", "0")],
)
def test_usage_errors_are_exit_2(server_url: str, options: tuple[str, str]) -> None:
    """A wrong option is said before anything starts."""
    done = run_command("run", PROCESSOR, *options, "--url", server_url)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def test_add_wait_stats_and_scale(
    workers: list[RunningWorker], server_url: str, queue_name: str
) -> None:
    """The other commands, against a running worker."""
    start(workers, server_url, queue_name, "--procs", "1")
    url = ("--url", server_url)
    added = run_command("add", queue_name, "echo", '{"value": {"a": 1}}', "--wait", *url)
    assert (added.returncode, json.loads(added.stdout)) == (0, {"a": 1})
    stats = run_command("stats", queue_name, "--json", *url)
    assert json.loads(stats.stdout)[queue_name]["completed"] == 1
    scaled = run_command("scale", queue_name, "3", *url)
    assert "3 children" in scaled.stdout
    negative = run_command("add", queue_name, "echo", "--delay", "-1", *url)
    assert (negative.returncode, "delay" in negative.stderr) == (2, True)
    not_json = run_command("add", queue_name, "echo", "{oops", *url)
    assert (not_json.returncode, "JSON" in not_json.stderr) == (2, True)


def test_scale_without_a_worker_says_so(server_url: str, queue_name: str) -> None:
    """Silence would look like success."""
    done = run_command("scale", queue_name, "3", "--url", server_url)
    assert done.returncode == 1
    assert "no running worker" in done.stderr


def test_password_among_the_arguments_is_warned_of() -> None:
    """Every user of the machine sees it in the list of processes; the log does not repeat it."""
    done = run_command("run", PROCESSOR, "--url", "redis://:hunter2@127.0.0.1:1/0")
    assert "use SANDBOXQ_URL instead" in done.stderr
    assert "hunter2" not in done.stderr
    done = run_command("run", PROCESSOR, "--url", "redis://127.0.0.1:1/0")
    assert "SANDBOXQ_URL instead" not in done.stderr


def test_jobs_that_were_only_claimed_ahead_survive_any_number_of_dead_workers(
    workers: list[RunningWorker], server_url: str, queue_name: str
) -> None:
    """About a hundred jobs that nobody had run failed as stalled after the second."""
    options = ["--procs", "2", "--lock-duration", "1", "--stalled-interval", "1"]
    options += ["--claim-ahead-ms", "60000"]  # A busy machine's 4 ms hold too few.
    added = died_with_jobs = 0
    with Queue.sync(queue_name, url=server_url) as queue:

        def holds_many() -> bool:
            nonlocal added
            added += len(queue.add_bulk([("sleep", {"do": "sleep", "seconds": 0.005})] * 500))
            return queue.counts()["active"] > 100

        while died_with_jobs < 3:
            worker = start(workers, server_url, queue_name, *options)
            wait_until(holds_many)
            worker.send(signal.SIGKILL)
            worker.wait()
            died_with_jobs += queue.counts()["active"] > 0
        worker = start(workers, server_url, queue_name, *options, "--burst")
        wait_until(lambda: queue.counts()["completed"] == added)
        assert queue.counts()["failed"] == 0
