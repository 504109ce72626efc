"""The number of the last call that a child began, where the coordinator can read it after a death.

A child that is killed while it waits may have taken a call out of its socket without a line of the
user's code having run: only this tells such a call, which goes back, from one that is to blame.
"""

from __future__ import annotations

import mmap
import os
import struct

_NUMBER = struct.Struct("<Q")


class Mark:
    """Eight bytes that two processes share."""

    __slots__ = ("_memory",)

    def __init__(self, fd: int) -> None:
        """Map a descriptor from ``open_mark``; it may be closed afterwards."""
        self._memory = mmap.mmap(fd, _NUMBER.size)

    def begin(self, seq: int) -> None:
        """Say that the user's code is about to run for the call ``seq``."""
        _NUMBER.pack_into(self._memory, 0, seq)

    def latest(self) -> int:
        """Return the last call that was begun; calls are begun in the order of their numbers."""
        number: int = _NUMBER.unpack_from(self._memory)[0]
        return number

    def close(self) -> None:
        """Unmap; twice is harmless."""
        self._memory.close()


def open_mark() -> int:
    """Return a descriptor of shared memory for a mark, sealed so that nobody can shrink it."""
    fd = os.memfd_create("sandboxq-mark", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _NUMBER.size)
    _seal(fd)
    return fd


def _seal(fd: int) -> None:
    """Forbid another size: to read a page that is gone would kill the coordinator (SIGBUS)."""
    import fcntl  # noqa: PLC0415 - in the coordinator only

    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
