"""`run --http`, `health` and `metrics` as processes, as an operator has them."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Queue
from tests.conftest import wait_until
from tests.lifecycle.test_run import RunningWorker, workers  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(180)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours."""
    return subprocess.run(
        [sys.executable, "-m", "sandboxq", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_health_follows_the_life_of_a_worker(
    server_url: str,
    queue_name: str,
    workers: list[RunningWorker],  # noqa: F811 - the fixture
) -> None:
    """Exit code 0 while it takes jobs, 1 before, 1 with a hint when nobody answers any more."""
    worker = RunningWorker(server_url, queue_name, "--procs", "1", "--http", "0")
    workers.append(worker)
    worker.wait_until_ready()
    found = re.search(r"http://(127\.0\.0\.1:\d+) /livez /readyz /metrics /v1/load", worker.text)
    assert found is not None
    address = found[1]
    wait_until(lambda: command("health", "--http", address).returncode == 0)
    said = command("health", "--http", address, "--live")
    assert (said.returncode, said.stdout) == (0, '{"live": true}\n')
    worker.send(signal.SIGTERM)
    assert worker.wait(60) == 0
    said = command("health", "--http", address)
    assert said.returncode == 1
    assert "is it run with --http?" in said.stderr


def test_the_exporter_tells_of_queues_without_a_worker(server_url: str, queue_name: str) -> None:
    """Of those named, and of all there are."""
    with Queue.sync(queue_name, server_url) as queue:
        queue.add_bulk([("job", {})] * 3)
    for names in ([queue_name], []):
        said = command("metrics", "--once", "--url", server_url, *names)
        assert said.returncode == 0, said.stderr
        lines = said.stdout.splitlines()
        assert f'bullmq_job_count{{queue="{queue_name}",state="waiting"}} 3' in lines
        assert f'sandboxq_queue_workers{{queue="{queue_name}"}} 0' in lines
        assert f'sandboxq_redis_up{{queue="{queue_name}"}} 1' in lines


@contextlib.contextmanager
def exporter(url: str, *queues: str) -> Iterator[str]:
    """Run one; yield where it answers."""
    command = [sys.executable, "-m", "sandboxq", "metrics", *queues, "--url", url, "--http", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process, process.stderr:
        try:
            found = re.search(r"http://[\d.:]+", process.stderr.readline())
            assert found
            yield found[0]
        finally:
            process.terminate()


def load(base: str, query: str) -> tuple[int, Any]:
    """Return the status and the JSON of /v1/load."""
    try:
        with urllib.request.urlopen(f"{base}/v1/load?{query}", timeout=30) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_exporter_calls_for_the_first_worker(server_url: str, queue_name: str) -> None:
    """Also for a job that is delayed no more: no worker is there to see that its time has come."""
    with Queue.sync(queue_name, server_url) as queue, exporter(server_url, queue_name) as base:
        status, row = load(base, f"queue={queue_name}&children=4")
        assert (status, row["load"], row["oldest_waiting_seconds"]) == (200, 0, 0)
        queue.add_bulk([("job", {})] * 3)
        queue.add("later", {}, delay=3600)
        queue.add("soon", {}, delay=0.001)
        wait_until(lambda: load(base, f"queue={queue_name}&children=4")[1]["waiting"] == 4)
        row = load(base, f"queue={queue_name}&children=4")[1]
        assert (row["load"], row["delayed"], row["active"]) == (1.0, 1, 0)
        assert 0 < row["oldest_waiting_seconds"] < 3600
        assert load(base, "children=2")[1]["load"] == 2.0
        assert load(base, "queue=other")[0] == 503
        for bad in ("0", "-1", "many", "nan"):
            assert load(base, f"children={bad}")[0] == 400


def test_health_waits_no_longer_than_it_is_told() -> None:
    """Nor for an answer that drips; a time that is none is refused."""
    for text in ("nan", "inf", "0", "1e300"):
        said = command("health", "--timeout", text)
        assert (said.returncode, "--timeout must be from 0.1" in said.stderr) == (2, True)
    over = threading.Event()

    def drip() -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            while not over.wait(0.1):
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as server:
        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            port = server.getsockname()[1]
            said = command("health", "--http", str(port), "--timeout", "0.5")
        finally:
            over.set()
            dripping.join()
    assert said.returncode == 1
    assert "timed out" in said.stderr
