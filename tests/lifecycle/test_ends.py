"""How a worker ends whose Redis is away, or whose embedded server has no room on its disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import redis

from sandboxq import Queue
from tests.conftest import _start_server, wait_until
from tests.lifecycle.test_run import RunningWorker, start, workers  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOW = """
import pathlib, time

def process(job):
    pathlib.Path(job.data["begun"]).touch()
    time.sleep(job.data["seconds"])
    pathlib.Path(job.data["ended"]).touch()
    return 1
"""


class Away:
    """A server that a test takes away, and a worker with a job that ends meanwhile."""

    def __init__(self, directory: Path, queue_name: str, timeout: str) -> None:
        """Start both, and freeze the server while the job runs."""
        self.server, self.url = _start_server(directory)
        processor = directory / "slow.py"
        processor.write_text(SLOW)
        begun, self.ended = directory / "begun", directory / "ended"
        with Queue.sync(queue_name, url=self.url) as queue:
            data = {"begun": str(begun), "ended": str(self.ended), "seconds": 1}
            queue.add("slow", data)
        options = ("--procs", "1", "--shutdown-timeout", timeout, "--lock-duration", "60")
        self.worker = RunningWorker(self.url, queue_name, *options, processor=str(processor))
        wait_until(begun.exists)
        self.server.send_signal(signal.SIGSTOP)
        wait_until(self.ended.exists)

    def close(self) -> None:
        """End both."""
        for process in (self.worker.process, self.server):
            process.kill()
            process.wait()
        self.worker.wait()
        assert self.worker.process.stdout is not None
        self.worker.process.stdout.close()


@pytest.fixture
def away(tmp_path: Path, queue_name: str, request: pytest.FixtureRequest) -> Iterator[Away]:
    """Yield a worker whose Redis is away, with this shutdown timeout."""
    case = Away(tmp_path, queue_name, request.param)
    yield case
    case.close()


@pytest.mark.parametrize("away", ["2"], indirect=True)
def test_lost_outcomes_are_exit_5(away: Away) -> None:
    """A deploy that ran while Redis was away must not look as if all were well."""
    away.worker.send(signal.SIGTERM)
    assert away.worker.wait(60) == 5, away.worker.text
    assert "1 outcome could not be written to Redis" in away.worker.text
    assert "(jobs: 1)" in away.worker.text
    assert "Traceback" not in away.worker.text


@pytest.mark.parametrize("away", ["60"], indirect=True)
def test_redis_that_returns_in_time_gets_the_outcomes(away: Away, queue_name: str) -> None:
    """Until the shutdown timeout it is tried again."""
    away.worker.send(signal.SIGTERM)
    wait_until(lambda: "SIGTERM" in away.worker.text)
    away.server.send_signal(signal.SIGCONT)
    assert away.worker.wait(60) == 0, away.worker.text
    client = redis.Redis.from_url(away.url)
    assert client.zscore(f"bull:{queue_name}:completed", "1") is not None


def test_embedded_server_without_room_is_an_absence(tmp_path: Path, queue_name: str) -> None:
    """Its directory takes no file when it has died (ENOSPC at worst): the worker waits for that."""
    processor = tmp_path / "slow.py"
    processor.write_text(SLOW)
    environment = {
        key: value for key, value in os.environ.items() if not key.endswith(("REDIS_URL", "Q_URL"))
    }
    log = tmp_path / "log"
    command = [sys.executable, "-m", "sandboxq", "run", str(processor), "--queue", queue_name]
    with log.open("wb") as out:
        worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=out)
    try:
        _lose_the_server(tmp_path / ".sandboxq", log, worker)
    finally:
        worker.kill()
        worker.wait()


def _lose_the_server(directory: Path, log: Path, worker: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: "locks " in log.read_text())
    record = directory / "server.json"
    record.unlink()
    record.mkdir()  # a name that cannot be written: OSError, as on a full disk
    os.kill(int((directory / "server.pid").read_text()), signal.SIGKILL)
    wait_until(lambda: "Redis is away" in log.read_text() or worker.poll() is not None)
    assert worker.poll() is None, log.read_text()
    record.rmdir()
    record.write_text('{"socket": "valkey.sock"}')
    wait_until(lambda: "Redis is back" in log.read_text())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("late", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_after_the_end_changes_nothing(
    late: signal.Signals,
    server_url: str,
    queue_name: str,
    workers: list[RunningWorker],  # noqa: F811 - the fixture
) -> None:
    """All is settled: whoever is impatient does not make it an end by force."""
    worker = start(workers, server_url, queue_name, "--procs", "1")
    worker.send(signal.SIGTERM)
    wait_until(lambda: "0 completed, 0 failed" in worker.text)
    while worker.process.poll() is None:
        worker.process.send_signal(late)
        time.sleep(0.001)
    assert worker.wait(60) == 0


def test_a_worker_whose_parent_has_blocked_signals_ends(server_url: str, queue_name: str) -> None:
    """A service manager, or a thread of a program, may have left the mask to what it starts."""
    blocked = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        worker = RunningWorker(server_url, queue_name)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        worker.wait_until_ready()
        worker.send(signal.SIGTERM)
        assert worker.wait(60) == 0, worker.text
    finally:
        worker.process.kill()
        worker.wait()
        assert worker.process.stdout is not None
        worker.process.stdout.close()
