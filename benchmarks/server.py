"""A Redis of a benchmark's own: no persistence, on a Unix socket, gone afterwards."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING

from sandboxq.broker.embedded.launcher import binary_path

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; ``program`` is its name and version."""

    pid: int
    url: str
    path: Path
    program: str


@contextmanager
def private_server() -> Iterator[Server]:
    """Run Redis, or the embedded Valkey where there is no redis-server, for the block."""
    program = shutil.which("redis-server") or str(binary_path())
    with tempfile.TemporaryDirectory(prefix="sandboxq-bench-") as folder:
        path = Path(folder, "server.sock")
        command = [program, "--port", "0", "--unixsocket", str(path), "--dir", folder]
        command += ["--save", "", "--appendonly", "no"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                _wait_until_up(path)
                yield Server(process.pid, f"unix://{path}", path, server_version())
            finally:
                process.terminate()


def server_version() -> str:
    """Return name and version of the server that benchmarks run against."""
    program = shutil.which("redis-server") or str(binary_path())
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return " ".join(words.stdout.split()[:3])


def _wait_until_up(path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with socket(AF_UNIX, SOCK_STREAM) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.005)
    message = f"the server did not listen within {START_SECONDS:g} s"
    raise SystemExit(message)
