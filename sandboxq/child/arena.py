"""Memory that a child shares with the coordinator, for arrays and bytes: one sealed memfd.

    0 ─ header: how many results the coordinator has done with
    4096 ─ arrays and bytes of calls: the coordinator writes, the child reads
    RESULTS ─ those of results: the child writes, the coordinator reads
    end ─ as far as the grant of memory explains

Sparse: only pages that were touched exist. Sealed against another size, because to read a page that
is gone would kill the coordinator (SIGBUS), and against more seals, which would keep it from
mapping this. Mapped by each side when it is first used, and used again and again: new pages cost
ten times what it takes to fill them.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from typing import TYPE_CHECKING

from sandboxq.errors import ResultTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable

# Several times what may be under way to one child.
HALF = 4 << 30
RESULTS = HALF
HEADER = mmap.PAGESIZE
DONE_WITH = struct.Struct("<Q")

_WAIT_SECONDS = 0.001


def open_arena(results_size: int) -> int:
    """Return the descriptor of a new arena for so many bytes of results; no memory is used yet."""
    import fcntl  # noqa: PLC0415 - in the coordinator only

    fd = os.memfd_create("sandboxq-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, RESULTS + results_size)
    except OSError:
        os.close(fd)
        raise
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def rounded(size: int) -> int:
    """Return a size in whole pages."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


class ChildArena:
    """The child's side."""

    __slots__ = ("_calls", "_end", "_fd", "_results", "_written")

    def __init__(self, fd: int) -> None:
        """Keep the descriptor; most children never use it."""
        self._fd = fd
        self._calls: mmap.mmap | None = None
        self._results: mmap.mmap | None = None
        self._written = 0
        self._end = 0

    def read(self, offset: int, size: int) -> memoryview:
        """Return what the coordinator put there; it cannot be written to."""
        return memoryview(self._mapped_calls())[offset : offset + size]

    def write(self, pieces: Iterable[memoryview | bytes], size: int) -> int:
        """Copy a result of so many bytes in, and return where it begins in the upper half."""
        if self._results is None:
            size_of_results = os.fstat(self._fd).st_size - RESULTS
            self._results = mmap.mmap(self._fd, size_of_results, offset=RESULTS)
        if size > len(self._results):
            message = (
                f"the return value has {size} bytes of arrays and bytes, "
                f"the policy's memory allows {len(self._results)}"
            )
            raise ResultTooLarge(message)
        start = self._free_start(size)
        at = start
        for piece in pieces:
            self._results[at : at + len(piece)] = piece
            at += len(piece)
        self._written += 1
        self._end = rounded(at)
        return start

    def close(self) -> None:
        """Give back the descriptor and the memory, unless a job keeps a view of that."""
        os.close(self._fd)
        for mapped in (self._calls, self._results):
            if mapped is not None:
                with contextlib.suppress(BufferError):
                    mapped.close()

    def _free_start(self, size: int) -> int:
        """Return where nothing is that the coordinator still reads; wait when that is nowhere."""
        assert self._results is not None  # noqa: S101 - it was mapped just now
        while self._done_with() < self._written:
            if self._end + size <= len(self._results):
                return self._end
            time.sleep(_WAIT_SECONDS)
        return 0

    def _done_with(self) -> int:
        number: int = DONE_WITH.unpack_from(self._mapped_calls())[0]
        return number

    def _mapped_calls(self) -> mmap.mmap:
        if self._calls is None:
            self._calls = mmap.mmap(self._fd, HALF, prot=mmap.PROT_READ)
        return self._calls
