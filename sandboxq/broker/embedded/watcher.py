"""Ends the embedded server when nobody has used it for a while: its users may have been killed.

    watcher.py DIRECTORY PID SOCKET SECONDS

A program of its own, started beside the server, which it outlives by nothing. It needs the standard
library alone and not the package, so that it starts in some 10 ms.
"""

import contextlib
import fcntl
import os
import re
import select
import signal
import socket
import sys
import time

# So many looks in the time that is waited for; and milliseconds for the last write to disk.
_LOOKS = 6
_STOP_MS = 60_000
_ANSWER_SECONDS = 5.0


def watch(directory: str, pid: int, socket_path: str, seconds: float) -> None:
    """Wait for the server's end, and end it after ``seconds`` without a user or a client."""
    os.chdir(directory)  # which may be moved
    server = os.pidfd_open(pid)
    start, users = (
        os.open(name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("start.lock", "users.lock")
    )
    end = select.poll()
    end.register(server, select.POLLIN)
    last = time.monotonic()
    while not end.poll(1000 * seconds / _LOOKS):
        # Nobody begins or ends to use the server while this is held.
        fcntl.flock(start, fcntl.LOCK_EX)
        if _is_used(users, socket_path):
            last = time.monotonic()
        elif time.monotonic() - last >= seconds:
            signal.pidfd_send_signal(server, signal.SIGTERM)
            end.poll(_STOP_MS)
            _remove_record(socket_path)
        fcntl.flock(start, fcntl.LOCK_UN)


def _is_used(users: int, socket_path: str) -> bool:
    if os.path.exists("keep"):  # noqa: PTH110 - pathlib takes as long to load as all the rest
        return True
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(users, fcntl.LOCK_UN)
    return _clients(socket_path) > 1  # Node's are no users; one is this


def _clients(socket_path: str) -> int:
    """Return how many are connected; 0 when it cannot be asked: its directory was deleted."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(socket_path)
        connection.sendall(b"INFO clients\r\n")
        found = re.search(rb"connected_clients:(\d+)", connection.recv(4096))
        return int(found[1]) if found else 0
    return 0


def _remove_record(socket_path: str) -> None:
    """Leave what ``server stop`` leaves."""
    with contextlib.suppress(OSError):
        os.unlink("server.json")  # noqa: PTH108 - as above
    folder = os.path.dirname(socket_path)  # noqa: PTH120 - as above
    with contextlib.suppress(OSError):
        # A folder of its own, for a path that was too long; others have more in them.
        os.rmdir(folder)  # noqa: PTH106 - as above


if __name__ == "__main__":
    watch(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
