"""The coordinator's word that a job is to end, in a pipe of its own beside the socket.

In the socket it would stand behind calls, and those must stay unread for the coordinator to take
back. What is written here are numbers of calls, eight bytes each, and questions whether the event
loop of an ``async def`` processor turns.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBER = struct.Struct("<Q")
_READ_SIZE = 512 * _NUMBER.size
# Set in a number: the call's time is up. Not set: somebody cancelled it.
_TIMEOUT = 1 << 63
# Set in a number: it is that of a question.
_QUESTION = 1 << 62


class Cancels:
    """The child's end. Any thread of the job may ask."""

    def __init__(self, fd: int) -> None:
        """Take over the reading end of a pipe from ``open_cancels``."""
        self._fd = fd
        self._pid = os.getpid()
        self._asked: dict[int, bool] = {}  # True: its time is up
        # The last call whose code looked: it ends by itself and is not interrupted.
        self._looking = 0
        # The calls whose code has been told: what they return now is no result.
        self.told: set[int] = set()
        self.on_question: Callable[[int], object] = _do_nothing

    def fileno(self) -> int:
        """Return the descriptor, for an event loop to watch."""
        return self._fd

    def look(self, seq: int) -> bool:
        """Tell the code of a running call, which asks, whether it is to end."""
        self._looking = seq
        return self.tell(seq)

    def may_interrupt(self, seq: int) -> bool:
        """Tell whether a call is to end whose code does not look by itself."""
        self.read()
        return seq in self._asked and seq != self._looking

    def tell_timeout(self, seq: int) -> bool:
        """Take note that a call that is to end is told; True when its time is up."""
        self.told.add(seq)
        return self._asked[seq]

    def tell(self, seq: int) -> bool:
        """Tell a running call whether it is to end."""
        self.read()
        if seq in self._asked:
            self.told.add(seq)
        return seq in self._asked

    def read(self) -> list[int]:
        """Return the calls that are to end, of which nothing was known yet."""
        if os.getpid() != self._pid:
            return []  # a process that the job forked would take the word from the job
        try:
            raw = os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return []
        words = [number for (number,) in _NUMBER.iter_unpack(raw)]
        questions = [word & ~_QUESTION for word in words if word & _QUESTION]
        if questions:
            self.on_question(max(questions))
            words = [word for word in words if not word & _QUESTION]
        asked = {word & ~_TIMEOUT: bool(word & _TIMEOUT) for word in words}
        self._asked.update(asked)
        return list(asked)

    def forget(self, seq: int) -> bool:
        """Take note that a call has ended; True when its code had been told to."""
        self._asked.pop(seq, None)
        if seq not in self.told:
            return False
        self.told.discard(seq)
        return True


def open_cancels() -> tuple[int, int]:
    """Return a pipe that blocks nobody: the child's end, the coordinator's end.

    Not a real pipe: its ends share a lock, which a child can hold (see OutputPipe).
    """
    far, near = open_socket_pipe()
    for fd in (far, near):
        os.set_blocking(fd, False)
    return far, near


def open_socket_pipe() -> tuple[int, int]:
    """Return a pair of descriptors of which the second is to be written to, as os.pipe does."""
    import socket  # noqa: PLC0415 - in the coordinator only

    near, far = socket.socketpair()
    return near.detach(), far.detach()


def ask(fd: int, seq: int, *, is_timeout: bool = False) -> None:
    """Write the number of a call that is to end, because its time is up or somebody cancelled it.

    Into a full pipe nothing is written: then the child has not looked for thousands of calls.
    """
    _write(fd, seq | _TIMEOUT if is_timeout else seq)


def ask_whether_it_turns(fd: int, number: int) -> None:
    """Write a question: the event loop puts its number into the mark when it gets to it."""
    _write(fd, number | _QUESTION)


def _write(fd: int, word: int) -> None:
    try:
        os.write(fd, _NUMBER.pack(word))
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        return


def _do_nothing(_: int) -> None:
    """No event loop is there to be asked."""
