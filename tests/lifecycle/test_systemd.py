"""SIGHUP, and what systemd is told, over a real notify socket."""

from __future__ import annotations

import os
import signal
import socket
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

pytestmark = pytest.mark.timeout(180)

CODE = """
import os, time
def process(job):
    while job.name == "long" and not os.path.exists("go"):
        time.sleep(0.01)
    return {value}
"""


class Service:
    """A worker as a service of Type=notify, and the manager's side of its socket."""

    def __init__(self, folder: Path, url: str, queue: str) -> None:
        """Start it; its watchdog is to be fed within two seconds."""
        self.folder = folder
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.setblocking(False)  # noqa: FBT003 - its only way
        self.told: list[str] = []
        command = [sys.executable, "-m", "sandboxq", "run", "answering.py", "--procs", "2"]
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [*command, "--queue", queue, "--url", url],
            cwd=folder,
            stderr=self.log,
            start_new_session=True,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(folder / "notify"),
                "WATCHDOG_USEC": "2000000",
                "PYTHONDONTWRITEBYTECODE": "1",  # the code changes twice in a second
            },
        )

    def has_told(self, *words: str) -> bool:
        """Tell whether these have come since the last question, in this order."""
        while True:
            try:
                self.told.append(self.manager.recv(4096).decode())
            except BlockingIOError:
                break
        rest = iter(self.told)
        return all(any(told.startswith(word) for told in rest) for word in words)

    def close(self) -> None:
        """End what is left."""
        self.process.kill()
        self.process.wait()
        self.manager.close()
        self.log.close()

    @property
    def text(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text()


@contextmanager
def serving(folder: Path, url: str, queue: str) -> Iterator[Service]:
    """Run a service that has said READY."""
    (folder / "answering.py").write_text(CODE.format(value=1))
    service = Service(folder, url, queue)
    try:
        wait_until(lambda: service.has_told("READY=1"))
        yield service
    finally:
        service.close()


def test_a_life_as_systemd_is_told_it(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """Ready, fed, with a status, reloading and ready again, stopping; no job lost, none run twice.

    A job that runs while the code changes ends where it began, those that wait get the new code.
    """
    with (
        Queue.sync(queue_name, server_url) as queue,
        serving(tmp_path, server_url, queue_name) as service,
    ):
        wait_until(lambda: service.has_told("READY=1", "WATCHDOG=1", "WATCHDOG=1"))
        assert service.has_told(f"STATUS={queue_name}: 0 running")
        long = queue.add("long", {})
        wait_until(lambda: long.state() == "active")
        (tmp_path / "answering.py").write_text(CODE.format(value=2))
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.has_told("READY=1", "RELOADING=1\nMONOTONIC_USEC=", "READY=1"))
        assert [queue.add("short", {}).result(timeout=60) for _ in range(5)] == [2] * 5
        assert long.state() == "active"
        (tmp_path / "go").touch()
        assert long.result(timeout=60) == 1
        assert long.refresh().attempts_started == 1
        service.process.terminate()
        assert service.process.wait(60) == 0
        assert service.has_told("READY=1", "STOPPING=1")
        assert queue.counts()["failed"] == 0


def test_code_that_does_not_load_leaves_the_old_running(
    tmp_path: Path, server_url: str, queue_name: str
) -> None:
    """And says so, with the reason; systemd hears that it is ready again."""
    with (
        Queue.sync(queue_name, server_url) as queue,
        serving(tmp_path, server_url, queue_name) as service,
    ):
        (tmp_path / "answering.py").write_text("def process(job:\n")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the new code was not taken" in service.text)
        assert "SyntaxError" in service.text
        wait_until(lambda: service.has_told("RELOADING=1", "READY=1"))
        assert queue.add("ask", {}).result(timeout=60) == 1
        service.process.terminate()
        assert service.process.wait(60) == 0
