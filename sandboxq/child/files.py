"""Temporary files and descriptors that jobs leave behind: whether there are any, and what goes."""

from __future__ import annotations

import gc
import os
import resource
import socket
import stat
import sys
import time
from typing import Any

from sandboxq.sandbox.processes import read_file
from sandboxq.sandbox.scratch import empty_scratch

# Descriptors that jobs may keep for those after them; sockets, which are connections, count less.
_KEPT_DESCRIPTORS = 16
_SCRATCH_SECONDS = 0.25
_TICK_NS = 20_000_000  # with room: ticks are 1 to 10 ms


class Scratch:
    """The child's own folder of temporary files."""

    def __init__(self, path: str) -> None:
        """Take what lies there for what is to lie there; nothing: there is no folder."""
        self._fd = -1
        self._seen = 0
        self._kept: set[str] = set()
        self._tempdir = getattr(sys.modules.get("tempfile"), "tempdir", None)
        if path:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._kept = set(os.listdir(self._fd))  # noqa: PTH208 - by descriptor
            self._note()

    def _note(self) -> None:
        """Keep when it was changed last, which nobody can set; not before that is over.

        Before Linux 6.13 changes within one tick of the kernel's clock have the same time.
        """
        changed = os.fstat(self._fd).st_ctime_ns
        self._seen = changed if time.time_ns() - changed > _TICK_NS else 0

    def is_changed(self) -> bool:
        """Tell whether anything was made or removed there."""
        return self._fd >= 0 and os.fstat(self._fd).st_ctime_ns != self._seen

    def empty(self) -> int:
        """Remove what jobs have left; return how many things lay there. Raises: TimeoutError."""
        count = empty_scratch(self._fd, keep=self._kept, seconds=_SCRATCH_SECONDS)
        self._note()
        tempfile: Any = sys.modules.get("tempfile")
        if tempfile is not None and tempfile.tempdir != self._tempdir:
            tempfile.tempdir = self._tempdir  # not a job's own place; None: looked up again
        if count and "multiprocessing.process" in sys.modules:
            process = sys.modules["multiprocessing.process"].current_process()
            process._config.pop("tempdir", None)  # noqa: SLF001 - the folder that it had made is gone
        return count


class Descriptors:
    """Which are open, and whether the new ones are harmless."""

    def __init__(self) -> None:
        """Take what is open for what is to be open."""
        self.fd = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._known = set(self._open())
        spare = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - len(self._known)) // 4
        self._most, self._most_files = max(1, spare), max(1, min(_KEPT_DESCRIPTORS, spare))
        self._seen = self._size()

    def _size(self) -> int:
        """Return how many there are; kernels before 6.2 say 0."""
        return os.fstat(self.fd).st_size

    def _open(self) -> list[int]:
        return list(map(int, os.listdir(self.fd)))  # noqa: PTH208 - by descriptor

    def too_many(self) -> int:
        """Return how many jobs have left, when they must not stay; 0 while they may."""
        size = self._size()
        if size and size <= self._seen:
            self._seen = size
            return 0
        if self._must_go(self._new()):
            gc.collect()  # what only a circle of objects holds is nobody's
            new = self._new()
            if self._must_go(new):
                return len(new)
        self._seen = self._size()
        return 0

    def _new(self) -> list[int]:
        """Return what is open that was not before the first job."""
        return [fd for fd in self._open() if fd not in self._known and _is_open(fd)]

    def _must_go(self, fds: list[int]) -> bool:
        files = [fd for fd in fds if not _is_socket(fd)]
        is_many = len(fds) > self._most or len(files) > self._most_files
        return is_many or any(_is_harmful(fd) and not self._was_open(fd) for fd in fds)

    def _was_open(self, fd: int) -> bool:
        """Tell whether what it leads to was open before: ``mmap`` makes a descriptor of its own.

        A lock belongs to what was opened, not to the file: one that was not there is new.
        """
        there = [known for known in self._known if _lead_to_one_file(fd, known)]
        return bool(there) and (not _is_locked(fd) or any(map(_is_locked, there)))


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def _is_open(fd: int) -> bool:
    """Tell whether it is still there: the one by which the folder was listed is not."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _is_harmful(fd: int) -> bool:
    """Tell whether others would meet it: a lock, a port, a file that has no name any more."""
    try:
        facts = os.fstat(fd)
        if stat.S_ISSOCK(facts.st_mode):
            return _is_listening(fd)
        if not stat.S_ISREG(facts.st_mode):
            return False
        return not facts.st_nlink or _is_locked(fd)
    except OSError:
        return False


def _is_locked(fd: int) -> bool:
    return b"lock:" in read_file(f"/proc/self/fdinfo/{fd}")


def _lead_to_one_file(fd: int, other: int) -> bool:
    try:
        return os.path.sameopenfile(fd, other)
    except OSError:
        return False


def _is_listening(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as other:
        return bool(other.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
