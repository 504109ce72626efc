"""What a child is doing, in memory that the coordinator reads when the child cannot answer.

A child that is killed while it waits may have taken a call out of its socket without a line of the
user's code having run: only ``latest`` tells such a call, which goes back, from one that is to
blame. Of the jobs that share an event loop, ``running`` tells which one has it now. Behind the page
of numbers are two with the answers that a child holds back, to send several in one packet:
child/packets.py.
"""

from __future__ import annotations

import mmap
import os

# Numbers of eight bytes: the last call begun, the call whose code has the event loop (0: none),
# the last question that the loop has answered, how much is held back, what the coordinator wants
# to be sampled (child/sampler.py); then, in turns, calls and when they were begun.
LATEST, RUNNING, _ECHO, HELD, SAMPLE, _FIRST_BEGIN = range(6)
_PAGE = 4096
_SIZE = 3 * _PAGE
_WIDTH = 8
# More jobs at once than this in one child: the oldest begins are forgotten.
_BEGINS = (_PAGE // _WIDTH - _FIRST_BEGIN) // 2
# How much is held back is one number: the packet that is being filled, and where it ends here.
# Packets are filled in the one page and the other in turns.
END_BITS = 32
_END = (1 << END_BITS) - 1


class ActivityPage:
    """A page that two processes share."""

    __slots__ = ("memory", "words")

    def __init__(self, fd: int) -> None:
        """Map a descriptor from ``open_mark``; it may be closed afterwards."""
        self.memory = mmap.mmap(fd, _SIZE)
        self.words = memoryview(self.memory).cast("Q")

    def begin(self, seq: int) -> None:
        """Say that the user's code is about to run for the call ``seq``."""
        self.words[LATEST] = seq

    def begin_at(self, seq: int, now_ns: int) -> None:
        """Say so, and when: nanoseconds of the monotonic clock."""
        words, at = self.words, _FIRST_BEGIN + seq % _BEGINS * 2
        words[at] = seq
        words[at + 1] = now_ns
        words[LATEST] = seq

    def echo(self, number: int) -> None:
        """Answer the coordinator's question whether the event loop turns."""
        self.words[_ECHO] = number

    def latest(self) -> int:
        """Return the last call that was begun; calls are begun in the order of their numbers."""
        return self.words[LATEST]

    def begun_at(self, seq: int) -> float | None:
        """Return when a call was begun, in seconds of the monotonic clock; None: not known."""
        words, at = self.words, _FIRST_BEGIN + seq % _BEGINS * 2
        return words[at + 1] / 1e9 if words[at] == seq else None

    def running(self) -> int:
        """Return the call whose code has the event loop; 0 when none has."""
        return self.words[RUNNING]

    def echoed(self) -> int:
        """Return the last question that the event loop has answered."""
        return self.words[_ECHO]

    def hold(self, packet: int, end: int) -> None:
        """Say that the answers up to ``end`` of a packet are there, and not sent; 0: none."""
        self.words[HELD] = packet << END_BITS | end

    def held(self) -> int:
        """Return how much is held back; as long as it is the same, nothing has changed."""
        return self.words[HELD]

    def holds(self) -> bool:
        """Tell whether anything is held back."""
        return bool(self.words[HELD] & _END)

    def read_held(self, held: int) -> bytes:
        """Return a copy of the packet that ``held`` tells of, unless it was sent meanwhile."""
        packet = held >> END_BITS
        start = start_of_page(packet)
        size = (held & _END) - start
        copy = self.memory[start : start + max(0, min(size, _PAGE))]
        return copy if self.held() >> END_BITS == packet else b""

    def close(self) -> None:
        """Unmap; twice is harmless."""
        self.words.release()
        self.memory.close()


def start_of_page(packet: int) -> int:
    """Return where a packet of answers is filled."""
    return _PAGE + packet % 2 * _PAGE


def open_mark() -> int:
    """Return a descriptor of shared memory for a mark, sealed so that nobody can shrink it."""
    fd = os.memfd_create("sandboxq-mark", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _SIZE)
    _seal(fd)
    return fd


def _seal(fd: int) -> None:
    """Forbid another size: to read a page that is gone would kill the coordinator (SIGBUS)."""
    import fcntl  # noqa: PLC0415 - in the coordinator only

    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
