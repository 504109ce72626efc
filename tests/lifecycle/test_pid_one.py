"""A worker that is the first process of a container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxq.sandbox.processes import children_of, living
from tests.conftest import wait_until
from tests.pool.caller import processor_file

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs a PID namespace")

_INSIDE = 'mount -t proc proc /proc; exec "$@"'
_NOTHING = "def process(job):\n    return None\n"


class Container:
    """A PID namespace whose first process is a program, seen from outside."""

    def __init__(self, *command: str, url: str) -> None:
        """Start the program."""
        unshare = ["unshare", "--pid", "--fork", "--mount", "--kill-child"]
        self._process = subprocess.Popen(
            [*unshare, "sh", "-c", _INSIDE, "sh", *command],
            env={**os.environ, "SANDBOXQ_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""

    def read_until(self, word: str) -> None:
        """Read what it prints until a word comes."""
        assert self._process.stdout is not None
        while word not in self.said:
            line = self._process.stdout.readline()
            if not line:
                pytest.skip(f"no PID namespaces here: {self.said}")
            self.said += line

    @property
    def first(self) -> int:
        """The process id of the first process, outside."""
        return children_of(self._process.pid)[0]

    def run(self, script: str) -> None:
        """Run a shell script in it."""
        enter = ["nsenter", "-t", str(self.first), "-p", "-m"]
        subprocess.run([*enter, "sh", "-c", script], check=True, timeout=60)

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        self._process.communicate(timeout=60)
        return self._process.returncode

    def kill(self) -> None:
        """End it, if it still runs."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def container(server_url: str, tmp_path: Path) -> Iterator[Container]:
    """Yield a container with a worker in it that is ready."""
    path = str(processor_file(tmp_path, _NOTHING))
    command = [sys.executable, "-m", "sandboxq", "run", path, "--procs=1", "--queue=pid-one"]
    container = Container(*command, url=server_url)
    container.read_until("locks")
    yield container
    container.kill()


def test_orphans_of_the_container_are_reaped(container: Container) -> None:
    """Each that stays is a process less that can be started."""
    container.run("(sleep 0.05; exit 3) & (sleep 0.1 & sleep 0.15 &) ; exit 0")
    first = container.first

    def are_reaped() -> bool:
        children = children_of(first)
        return len(children) == 1 and living(children) == children

    wait_until(are_reaped)


def test_signals_reach_the_worker_and_its_exit_code_comes_out(container: Container) -> None:
    """`docker stop` speaks to the first process alone."""
    os.kill(container.first, signal.SIGTERM)
    container.read_until("SIGTERM")
    assert container.end() == 0


def test_exit_codes_of_all_kinds(server_url: str, tmp_path: Path) -> None:
    """Those of an error, and of a worker that a signal ended."""
    path = processor_file(tmp_path, "raise RuntimeError('no')\n")
    refused = Container(sys.executable, "-m", "sandboxq", "run", str(path), url=server_url)
    refused.read_until("no")
    assert refused.end() == 3
    program = """
        import os, signal
        from sandboxq.cli.process import stay_behind_as_init
        stay_behind_as_init()
        print("worker is", os.getpid(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = Container(sys.executable, "-c", textwrap.dedent(program), url=server_url)
    killed.read_until("worker is")
    assert "worker is 1" not in killed.said.split("\n")
    assert killed.end() == 128 + signal.SIGKILL


def test_any_other_process_goes_on_as_it_is() -> None:
    """Outside of containers there is an init already."""
    from sandboxq.cli.process import stay_behind_as_init

    before = children_of(os.getpid())
    stay_behind_as_init()
    assert children_of(os.getpid()) == before
    assert Path("/proc/self").exists()
