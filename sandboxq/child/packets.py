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

from sandboxq.child.activity_page import END_BITS, HELD, start_of_page
from sandboxq.child.frames import (
    ANSWER,
    ANSWER_SIZE,
    ANSWERS,
    MICROSECONDS_LIMIT,
    REPLY,
    REPLY_SIZE,
    RETURNED,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.frames import Usage
    from sandboxq.child.link import Link

# A packet is sent when its first job was begun so long ago: coordinator and Redis want work too.
_LONGEST_NS = 500_000
# Larger ones are worth a packet of their own.
LARGEST = 512
_MOST_BYTES = 4096 - ANSWER_SIZE - LARGEST
# What such a job has used is read for it alone.
LONG_US = 1000
TOKEN_SIZE = 8
_pack_into = ANSWER.pack_into


class AnswerBuffer:
    """The answers of a packet of calls that were not sent yet.

    What their jobs have used is read once for all of them.
    """

    _longest = 0  # µs: none has taken so long that it has run programs

    __slots__ = (
        "_end", "_first", "_full", "_link", "_packet", "_since", "_start", "_total", "_view",
        "_words",
    )  # fmt: skip

    def __init__(self, link: Link) -> None:
        """Gather in the memory of the link's mark."""
        self._link = link
        self._view = memoryview(link.mark.memory)
        self._words = link.mark.words
        self._since = self._total = self._end = self._full = 0
        self._begin(0)

    def takes(self, payload: bytes, microseconds: int) -> bool:
        """Tell whether the value of the call that has just ended may wait here."""
        return len(payload) <= LARGEST and microseconds < LONG_US and not self._link.has_spoken

    def add(self, seq: int, payload: bytes, microseconds: int, began: int, ended: int) -> None:
        """Hold a value; ``began`` and ``ended`` are nanoseconds of one clock."""
        end = self._end
        if end == self._first:
            self._since = began
        _pack_into(self._view, end, len(payload), microseconds, seq)
        start = end + ANSWER_SIZE
        self._end = end = start + len(payload)
        self._view[start:end] = payload
        self._words[HELD] = self._packet << END_BITS | end  # see ActivityPage.hold
        self._total += microseconds + 1
        if ended - self._since > _LONGEST_NS or end > self._full:
            self.flush()

    def is_empty(self) -> bool:
        """Tell whether nothing is held."""
        return self._end == self._first

    def flush(self) -> None:
        """Send what there is. Killed before it says so, it is read twice, which is harmless."""
        if not self.is_empty():
            self._send(self._link.meter.read(self._longest))
            self._link.meter.start_peak_anew()

    def flush_before(self, had_used: Usage, usage: Usage) -> None:
        """Send what there is before the answer of a job whose end was at this usage.

        As far as there is so much since ``had_used``, the others have computed all of their time.
        """
        if not self.is_empty():
            user, system, peak = had_used
            self._send((min(user + self._total, usage[0]), system, peak))

    def close(self) -> None:
        """Give up the memory, which cannot be unmapped before; what was not sent stays in it."""
        self._end = self._first
        self._view.release()

    def _send(self, usage: Usage) -> None:
        self._head(min(self._total, MICROSECONDS_LIMIT), usage)
        self._link.send_whole(self._view[self._start : self._end])
        self._begin(self._packet + 1)

    def _begin(self, packet: int) -> None:
        """Fill the page that was not sent last: the coordinator may be reading that one."""
        self._packet = packet
        self._start = start_of_page(packet)
        self._end = self._first = self._start + REPLY_SIZE
        self._full = self._start + _MOST_BYTES
        self._total = 0
        self._head(0, self._link.meter.latest)
        self._link.mark.hold(packet, 0)

    def _head(self, total: int, usage: Usage) -> None:
        REPLY.pack_into(self._view, self._start, ANSWERS, 0, 0, total, 0, *usage)


class TurnBuffer(AnswerBuffer):
    """The answers of jobs that end in one turn of an event loop: sent together after it.

    Should a job of that turn block the loop, the coordinator reads them meanwhile.
    """

    __slots__ = ("_soon",)

    _longest = LONG_US

    def __init__(self, link: Link, soon: Callable[[Callable[[], object]], object]) -> None:
        """Gather as above; ``soon`` calls a function in the next turn."""
        super().__init__(link)
        self._soon = soon

    def takes(self, payload: bytes, microseconds: int) -> bool:
        """Tell whether a value may wait here: what its job has said was sent at once."""
        del microseconds
        return len(payload) <= LARGEST

    def add(self, seq: int, payload: bytes, microseconds: int, began: int, ended: int) -> None:
        """Hold a value until the end of the turn, however long ago its job has begun."""
        del began
        if self.is_empty():
            self._soon(self.flush)
        super().add(seq, payload, microseconds, ended, ended)


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


def _take_token(fd: int) -> bool:
    try:
        os.read(fd, TOKEN_SIZE)
    except OSError:  # there is none, or a job has closed what it is read from
        return False
    return True
