"""The coordinator's side of the memory that it shares with a child (child/arena.py)."""

from __future__ import annotations

import mmap
import os
import time
from typing import TYPE_CHECKING

from sandboxq.child.arena import DONE_WITH, HALF, HEADER, open_arena, rounded

if TYPE_CHECKING:
    from sandboxq.pool.call import Call

# Pages above so many bytes are given back when no array has come for a while: to have them again
# takes ten times as long as to fill them, but idle children should be small.
_KEPT = 64 << 20
_IDLE_SECONDS = 5.0


class Arena:
    """One child's arena."""

    def __init__(self) -> None:
        """Make one; nothing is mapped before it is used. Raises: OSError."""
        self.fd = open_arena()
        self._memory: mmap.mmap | None = None
        self._places: dict[int, tuple[int, int]] = {}  # by call: where it is in the lower half
        self._highest = HEADER
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
        if start < 0 or size < 0 or start + size > HALF:
            return None
        self._open_results.add(self._results)
        view = memoryview(self._mapped())[HALF + start : HALF + start + size]
        return ResultBlob(self, self._results, view.toreadonly())

    def end_result(self, number: int) -> None:
        """Let the child use the place of a result again, once those before it are ended too."""
        self._open_results.discard(number)
        self._used_at = time.monotonic()
        if self._memory is None:
            return  # the child is gone
        done_with = min(self._open_results, default=self._results + 1) - 1
        DONE_WITH.pack_into(self._memory, 0, done_with)

    def resident(self, most_results: int) -> int:
        """Return how much memory of the child is here, as far as honest work explains it.

        A child that fills its half by itself, beyond a result of ``most_results`` bytes, is not
        excused.
        """
        if self._memory is None or self.fd < 0:
            return 0
        return min(os.fstat(self.fd).st_blocks * 512, self._highest + most_results)

    def trim(self) -> None:
        """Give memory back when nothing is here and has not been for a while."""
        if self._memory is None or self._places or self._open_results or self.fd < 0:
            return
        if time.monotonic() - self._used_at < _IDLE_SECONDS:
            return
        if os.fstat(self.fd).st_blocks * 512 > _KEPT:
            self._memory.madvise(mmap.MADV_REMOVE, HEADER, 2 * HALF - HEADER)
            self._highest = HEADER

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

    def _mapped(self) -> mmap.mmap:
        if self._memory is None:
            self._memory = mmap.mmap(self.fd, 2 * HALF)
        return self._memory


class ResultBlob:
    """The arrays and bytes of a result, where the child wrote them; its place is free after it.

    The child could still change them: whoever reads them believes nothing.
    """

    __slots__ = ("_arena", "_number", "view")

    def __init__(self, arena: Arena, number: int, view: memoryview) -> None:
        """Hold the place open for as long as this lives."""
        self._arena = arena
        self._number = number
        self.view = view

    def __del__(self) -> None:
        """Free the place, whatever became of the outcome that this belonged to."""
        self._arena.end_result(self._number)
