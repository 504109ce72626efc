"""Several calls in one packet, and several answers in one.

    CALLS ──token──► run ──► Held, in shared memory ──► ANSWERS: all are run, or time has passed
         └──none──► RETURNED: the coordinator has taken back this call and those behind it

A token is a count in an eventfd. The kernel gives each to one side only, so that no call is both
begun here and run elsewhere. Answers that wait here outlive this process: the coordinator reads
them after its death, and while the next job takes long.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sandboxq.child.activity_page import start_of_page
from sandboxq.child.frames import ANSWERS, DONE, NOT_MEASURED, REPLY, REPLY_SIZE, RETURNED

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.frames import Usage
    from sandboxq.child.link import Link

# A packet is sent when its first job was begun so long ago: coordinator and Redis want work too.
_LONGEST_NS = 500_000
# Larger ones are worth a packet of their own.
_LARGEST = 512
_MOST_BYTES = 4096 - REPLY_SIZE - _LARGEST
_TOKEN_SIZE = 8


class AnswerBuffer:
    """The answers of a packet of calls that were not sent yet."""

    __slots__ = ("_end", "_link", "_packet", "_since", "_start", "_view")

    def __init__(self, link: Link) -> None:
        """Gather in the memory of the link's mark."""
        self._link = link
        self._view = memoryview(link.mark.memory)
        for packet in (1, 0):
            REPLY.pack_into(self._view, start_of_page(packet), ANSWERS, 0, 0, 0, 0, *NOT_MEASURED)
        self._since = self._end = 0
        self._begin(0)

    def takes(self, payload: bytes) -> bool:
        """Tell whether the value of the call that has just ended may wait here."""
        return len(payload) <= _LARGEST and not self._link.has_spoken

    def add(
        self, seq: int, payload: bytes, usage: Usage, *, microseconds: int, began: int, ended: int
    ) -> None:
        """Hold a value; ``began`` and ``ended`` are nanoseconds of one clock."""
        size, end = len(payload), self._end
        REPLY.pack_into(self._view, end, DONE, 0, size, microseconds, seq, *usage)
        end += REPLY_SIZE
        self._view[end : end + size] = payload
        if self.is_empty():
            self._since = began
        self._end = end + size
        self._link.mark.hold(self._packet, self._end)
        if ended - self._since > _LONGEST_NS or self._end - self._start > _MOST_BYTES:
            self.flush()

    def is_empty(self) -> bool:
        """Tell whether nothing is held."""
        return self._end == self._start + REPLY_SIZE

    def flush(self) -> None:
        """Send what there is. Killed before it says so, it is read twice, which is harmless."""
        if not self.is_empty():
            self._link.send_whole(self._view[self._start : self._end])
            self._begin(self._packet + 1)

    def close(self) -> None:
        """Give up the memory, which cannot be unmapped before; what was not sent stays in it."""
        self._end = self._start + REPLY_SIZE
        self._view.release()

    def _begin(self, packet: int) -> None:
        """Fill the page that was not sent last: the coordinator may be reading that one."""
        self._packet = packet
        self._start = start_of_page(packet)
        self._end = self._start + REPLY_SIZE
        self._link.mark.hold(packet, 0)


class TurnBuffer(AnswerBuffer):
    """The answers of jobs that end in one turn of an event loop: sent together after it.

    Should a job of that turn block the loop, the coordinator reads them meanwhile.
    """

    __slots__ = ("_soon",)

    def __init__(self, link: Link, soon: Callable[[Callable[[], object]], object]) -> None:
        """Gather as above; ``soon`` calls a function in the next turn."""
        super().__init__(link)
        self._soon = soon

    def takes(self, payload: bytes) -> bool:
        """Tell whether a value may wait here: what its job has said was sent at once."""
        return len(payload) <= _LARGEST

    def add(
        self, seq: int, payload: bytes, usage: Usage, *, microseconds: int, began: int, ended: int
    ) -> None:
        """Hold a value until the end of the turn, however long ago its job has begun."""
        del began
        if self.is_empty():
            self._soon(self.flush)
        super().add(seq, payload, usage, microseconds=microseconds, began=ended, ended=ended)


class Granted:
    """The calls of one packet, up to the number ``last``: which of them this child may begin."""

    __slots__ = ("_is_revoked", "_last", "_link")

    def __init__(self, link: Link, last: int) -> None:
        """All of them, as long as there are tokens."""
        self._link = link
        self._last = last
        self._is_revoked = False

    def may_begin(self, seq: int) -> bool:
        """Take the token of a call; without one, give back this call and those behind it.

        Asked once for each, in their order. After the first without, the tokens are of other calls.
        """
        if self._is_revoked:
            return False
        if not _take_token(self._link.tokens):
            self._is_revoked = True
            self._link.answer(RETURNED, seq, b"", detail=self._last - seq + 1)
        return not self._is_revoked


def run_calls(
    link: Link, held: AnswerBuffer, calls: list[bytes], seq: int, run: Callable[[bytes, int], None]
) -> None:
    """Run those of ``calls``, numbered from ``seq`` on, that the coordinator leaves to us."""
    link.held = held
    granted = Granted(link, seq + len(calls) - 1)
    for number, payload in enumerate(calls, seq):
        if not granted.may_begin(number):
            break
        link.has_spoken = False
        run(payload, number)
    held.flush()
    link.held = None


def _take_token(fd: int) -> bool:
    try:
        os.read(fd, _TOKEN_SIZE)
    except OSError:  # there is none, or a job has closed what it is read from
        return False
    return True
