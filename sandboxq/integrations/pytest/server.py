"""A server for one test session, which ends with the session in any case."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING

from sandboxq.broker.connect.endpoint import endpoint_of_socket
from sandboxq.broker.embedded.launcher import binary_path
from sandboxq.broker.embedded.server import LONGEST_SOCKET_PATH
from sandboxq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

# It is up after some 20 ms; a busy machine takes longer.
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.005
# The server ends when nobody holds the other end of this shell's input any more: with the test
# process, even when that is killed, and with what it has forked.
_UNTIL_INPUT_ENDS = '"$@" & server=$!; read -r _; kill "$server" 2>/dev/null; wait "$server"'


@contextlib.contextmanager
def private_server(directory: Path) -> Iterator[str]:
    """Run a server without persistence in ``directory`` while the block runs; yield its URL.

    Raises: BrokerUnavailable with the last lines of its log when it does not start.
    """
    with _short(directory) as folder:
        path, log = folder / "valkey.sock", directory / "server.log"
        process = subprocess.Popen(  # noqa: S603 - our own program, with arguments that are ours
            _command(directory, path, log),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the tests
        )
        try:
            _wait_until_up(process, path, log)
            yield endpoint_of_socket(path).url
        finally:
            process.communicate(timeout=_STOP_SECONDS)


@contextlib.contextmanager
def _short(directory: Path) -> Iterator[Path]:
    """Yield a folder for the socket: its path may be too long for the kernel in ``directory``."""
    if len(str(directory / "valkey.sock")) <= LONGEST_SOCKET_PATH:
        yield directory
        return
    folder = Path(tempfile.mkdtemp(prefix="sandboxq-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _command(directory: Path, path: Path, log: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "logfile": str(log),
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    return ["/bin/sh", "-c", _UNTIL_INPUT_ENDS, "sh", str(binary_path()), *arguments]


def _wait_until_up(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _listens(path):
        if process.poll() is not None or time.monotonic() > deadline:
            text = log.read_text(errors="replace") if log.exists() else ""
            message = f"the server for the tests did not start:\n{text[-2000:]}"
            raise BrokerUnavailable(message)
        time.sleep(_POLL_SECONDS)


def _listens(path: Path) -> bool:
    with socket(AF_UNIX, SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0
