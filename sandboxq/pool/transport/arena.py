"""The coordinator's side of what it shares with a child: arena (child/arena.py) and stacks."""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import time
from typing import TYPE_CHECKING

from sandboxq.child.arena import DONE_WITH, HALF, HEADER, RESULTS, open_arena, rounded
from sandboxq.child.profile_page import HEAD_SIZE, SIZE

if TYPE_CHECKING:
    from sandboxq.pool.calls import Call

# Pages above so many bytes are given back when no array has come for a while: to have them again
# takes ten times as long as to fill them, but idle children should be small.
_KEPT = 64 << 20
_IDLE_SECONDS = 5.0
# A value may be a little larger than the grant: libraries and files are mapped beside it.
_LIBRARIES = 64 << 20

# The stacks of a hundred threads, behind what is sampled; what does not fit is cut off.
_STACKS = SIZE
_PAGE_SIZE = 64 * 1024


class Arena:
    """One child's arena."""

    def __init__(self, memory: int | None = None, most_result: int = HALF) -> None:
        """Make one for a child with so much memory and results of ``most_result`` bytes at most.

        Nothing is mapped before it is used. Raises: OSError.
        """
        most = most_result if memory is None else min(most_result, memory + _LIBRARIES)
        self._most_result = rounded(most)
        # Two, as the coordinator may still be reading one while the child writes the next.
        self._results_size = min(2 * self._most_result, HALF)
        self.fd = open_arena(self._results_size)
        self._memory: mmap.mmap | None = None
        self._places: dict[int, tuple[int, int]] = {}  # by call: where it is in the lower half
        self._highest = HEADER
        self._highest_result = 0
        self._results = 0
        self._open_results: set[int] = set()
        self._used_at = 0.0

    def put(self, call: Call) -> int:
        """Copy the blob of a call in, and return where it is; it stays until ``free``."""
        assert call.blob is not None  # noqa: S101 - the caller looked
        size = len(call.blob.view)
        start = self._gap(rounded(size))
        self._places[call.seq] = start, start + rounded(size)
        self._highest = max(self._highest, start + size)
        self._mapped()[start : start + size] = call.blob.view
        return start

    def free(self, call: Call) -> None:
        """Give back the place of a call that is not in this child any more."""
        self._places.pop(call.seq, None)
        self._used_at = time.monotonic()

    def result(self, start: int, size: int) -> ResultBlob | None:
        """Return a result that the child says is there; None when it cannot be."""
        self._results += 1  # the child counts them too
        if start + size > self._results_size:
            return None
        self._open_results.add(self._results)
        self._highest_result = max(self._highest_result, start + size)
        view = memoryview(self._mapped())[RESULTS + start : RESULTS + start + size]
        return ResultBlob(self, self._results, view.toreadonly())

    def end_result(self, number: int) -> None:
        """Let the child use the place of a result again, once those before it are ended too."""
        self._open_results.discard(number)
        self._used_at = time.monotonic()
        if self._memory is None:
            return  # the child is gone
        done_with = min(self._open_results, default=self._results + 1) - 1
        DONE_WITH.pack_into(self._memory, 0, done_with)

    def resident(self) -> int:
        """Return how much memory is used here by calls and results."""
        return min(self._size(), self._explained())

    def hidden(self) -> int:
        """Return how much memory is used here beyond that of calls and results.

        It need not be mapped by any process: nothing else counts it.
        """
        return max(0, self._size() - self._explained())

    def trim(self) -> None:
        """Give memory back when nothing is here and has not been for a while."""
        if self._memory is None or self._places or self._open_results or self.fd < 0:
            return
        if time.monotonic() - self._used_at < _IDLE_SECONDS:
            return
        if self._size() > _KEPT:
            self._memory.madvise(mmap.MADV_REMOVE, HEADER, len(self._memory) - HEADER)
            self._highest, self._highest_result = HEADER, 0

    def close(self) -> None:
        """Close it; what results are still being read stays until then. Twice is harmless."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._memory = None  # unmapped when no result is being read

    def _gap(self, size: int) -> int:
        """Return the lowest place for so many bytes."""
        at = HEADER
        for start, end in sorted(self._places.values()):
            if start - at >= size:
                return at
            at = end
        if at + size > HALF:
            message = f"no {size} bytes are free for the arrays of a call"
            raise MemoryError(message)
        return at

    def _size(self) -> int:
        return os.fstat(self.fd).st_blocks * 512 if self.fd >= 0 else 0

    def _explained(self) -> int:
        """Return what calls and results have touched, and a result that may be on its way."""
        return self._highest + self._highest_result + self._most_result

    def _mapped(self) -> mmap.mmap:
        if self._memory is None:
            self._memory = mmap.mmap(self.fd, RESULTS + self._results_size)
        return self._memory


class ResultBlob:
    """The arrays and bytes of a result, where the child wrote them; its place is free after it.

    The child can still change them: readers must not trust them.
    """

    __slots__ = ("_arena", "_number", "view")

    def __init__(self, arena: Arena, number: int, view: memoryview) -> None:
        """Hold the place open for as long as this lives."""
        self._arena = arena
        self._number = number
        self.view = view

    def __del__(self) -> None:
        """Free the place, whatever happened to the outcome."""
        self._arena.end_result(self._number)


class StackPage:
    """A memfd of one size: what is sampled of jobs (child/profile_page.py), then stacks.

    Both sides share its position, which says how much of stacks was written.
    """

    __slots__ = ("fd", "turn")

    def __init__(self) -> None:
        """Make it; ``turn`` is held by who reads stacks."""
        self.turn = asyncio.Lock()
        self.fd = os.memfd_create("sandboxq-stacks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, _STACKS + _PAGE_SIZE)
        self.restart()
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)

    def restart(self) -> None:
        """Have the next stacks stand where the last ones did."""
        os.lseek(self.fd, _STACKS, os.SEEK_SET)

    def size(self) -> int:
        """Return how many bytes were written since."""
        return max(0, min(os.lseek(self.fd, 0, os.SEEK_CUR) - _STACKS, _PAGE_SIZE))

    def text(self) -> str:
        """Return what was written since."""
        return os.pread(self.fd, self.size(), _STACKS).decode("utf-8", "replace")

    def profile(self) -> bytes:
        """Return a copy of what is sampled."""
        return os.pread(self.fd, SIZE, 0)

    def profile_head(self) -> bytes:
        """Return the first numbers of it."""
        return os.pread(self.fd, HEAD_SIZE, 0)

    def close(self) -> None:
        """Give it back; twice is harmless."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
