"""Calls that share a packet: their tokens, and their answers that the child holds back.

The child takes a token before it begins a call of a packet (child/packets.py). Who takes back the
tokens has the calls: those of the one packet that the child has read and not worked off. Until the
child has said so, in its RETURNED, it gets no more: it would take their tokens for those calls.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandboxq.child.activity_page import ActivityPage

_COUNT = struct.Struct("<Q")
# preadv2(2): read where the file is. RWF_NOWAIT and not O_NONBLOCK, which a child can clear.
_HERE = -1


class Packets:
    """The packets of several calls that one child was sent."""

    __slots__ = ("_mark", "_seen", "_told", "are_revoked", "last", "tokens")

    def __init__(self, mark: ActivityPage, *, are_allowed: bool = True) -> None:
        """Begin with none. Where they are not allowed, nothing here is shared or believed."""
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE
        self.tokens = os.eventfd(0, flags) if are_allowed else -1
        self._mark = mark
        self.last = 0  # the last call that was sent in a packet with others
        self.are_revoked = False
        self._seen = self._told = 0

    def grant(self, count: int, last: int) -> None:
        """Put down tokens for so many calls, before they are sent."""
        self.last = last
        with suppress(BlockingIOError):  # full of tokens that the child has made itself
            os.write(self.tokens, _COUNT.pack(count))

    def revoke(self, most: int) -> int:
        """Take the tokens, ``most`` if there are so many; that many calls do not begin any more."""
        if self.tokens < 0:
            return 0
        token = [bytearray(_COUNT.size)]
        for count in range(most):
            try:
                os.preadv(self.tokens, token, _HERE, os.RWF_NOWAIT)
            except BlockingIOError:
                return count
        return most

    def have_answers(self) -> bool:
        """Tell whether answers are held back, or may yet be: look again."""
        mark = self._mark
        return self.last > mark.latest() or (mark.holds() and mark.held() != self._told)

    def take_stale(self) -> bytes:
        """Return answers that were held back at the last look too, once; they stay there."""
        if self.tokens < 0:
            return b""
        held, seen = self._mark.held(), self._seen
        self._seen = held
        if held != seen or held == self._told or not self._mark.holds():
            return b""
        self._told = held
        return self._mark.read_held(held)

    def take_all(self) -> bytes:
        """Return the answers that a dead child has held back."""
        return self._mark.read_held(self._mark.held()) if self.tokens >= 0 else b""

    def close(self) -> None:
        """Give back the descriptor; twice is harmless."""
        if self.tokens >= 0:
            os.close(self.tokens)
            self.tokens = -1
