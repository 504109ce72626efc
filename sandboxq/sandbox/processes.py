"""Processes, by /proc: descendants, states, signals; and reading files of the kernel.

Reading takes four system calls, where ``open`` makes nine.
"""

from __future__ import annotations

import os
import signal
import sys

_PIECE = 1 << 16


def read_file(path: str) -> bytes:
    """Return the content of a file; nothing when it, or the process it is about, is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return _all_of(fd)
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_text(path: str) -> str:
    """Return the same as text."""
    return read_file(path).decode("utf-8", "replace")


def _all_of(fd: int) -> bytes:
    """Read until nothing comes: the kernel tells some files piece by piece."""
    found = os.read(fd, _PIECE)
    while piece := os.read(fd, _PIECE):
        found += piece
    return found


def children_of(pid: int) -> list[int]:
    """Return the children of a process, of all its threads; nothing when it is gone."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - pathlib is not worth its import here
    except OSError:
        return found
    for thread in threads:
        found += [int(child) for child in read_file(f"/proc/{pid}/task/{thread}/children").split()]
    return found


def descendants_of(pid: int, *, most: int = sys.maxsize) -> list[int]:
    """Return everything below a process, parents before their children; stop beyond ``most``."""
    found = children_of(pid)
    for child in found:  # grows while it is walked
        if len(found) > most:
            break
        found += children_of(child)
    return found


def kill_all(pids: list[int]) -> None:
    """Send SIGKILL to each; those that are gone are no error."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def processes_with(variable: bytes) -> list[int]:
    """Return the processes that were started with ``NAME=value``; for when no parent is left."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - as above
    return [pid for pid in pids if variable in first_environment(pid)]


def first_environment(pid: int) -> list[bytes]:
    """Return the ``NAME=value`` texts that a process was started with; none when unreadable."""
    return read_file(f"/proc/{pid}/environ").split(b"\0")


def living(pids: list[int]) -> list[int]:
    """Return the processes that have not ended; those that wait to be reaped have."""
    return [pid for pid in pids if _state(pid) not in (b"", b"Z")]


def has_children() -> bool:
    """Tell whether there is anything that this process has started, or started and ended.

    In a child of a pool that is its whole tree: it adopts its orphans. One system call.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def is_stopped(pid: int) -> bool:
    """Tell whether a process was stopped by a signal."""
    return _state(pid) == b"T"


def is_caught(pid: int, number: int) -> bool:
    """Tell whether a process has a handler for a signal, which otherwise may end it."""
    status = read_file(f"/proc/{pid}/status").partition(b"SigCgt:")[2]
    return bool(int(status.partition(b"\n")[0] or b"0", 16) >> (number - 1) & 1)


def _state(pid: int) -> bytes:
    return read_file(f"/proc/{pid}/stat").rpartition(b") ")[2][:1]
