"""A deadline on silence: each chunk that comes, and each that the peer takes, starts it anew.

A deadline on the whole of an exchange would say how large a job may be for a slow link.
"""

from __future__ import annotations

import array
import asyncio
from typing import Any

try:
    import fcntl
    import termios
except ImportError:  # pragma: no cover - Windows has neither
    _UNSENT_REQUEST = None
else:
    _UNSENT_REQUEST = getattr(termios, "TIOCOUTQ", None)

# What is sent moves unseen inside the kernel: it is looked at so often within the time.
_LOOKS = 4
# Seconds in which a loop has surely polled its sockets.
_LAST_LOOK = 0.05


class Pulse:
    """When something last moved on a connection, and its end when nothing has for too long."""

    __slots__ = (
        "_is_due", "_looks_at", "_loop", "_seconds", "_timer", "_transport", "_unsent", "at",
        "is_over", "is_silent", "received", "size",
    )  # fmt: skip

    def __init__(self, transport: Any) -> None:
        """Watch a transport of the running loop."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self.size = self._unsent = 0  # of the message that is sent
        self.received = 0
        self.is_over = self.is_silent = self._is_due = False
        self._seconds = self._looks_at = 0.0
        self.at = self._loop.time()

    def begin(self, seconds: float, size: int) -> None:
        """Abort the connection after ``seconds`` of silence; ``size`` bytes are about to be sent.

        ``is_silent`` tells of it then; ``end`` is to be called in any case.
        """
        self.size = self._unsent = size
        self.received = 0
        self.is_over = False
        self._is_due = True
        self._seconds = seconds
        self.at = now = self._loop.time()
        # The timer of the exchange before does as well, unless it comes too late.
        if self._timer is None or self._looks_at > now + seconds / _LOOKS:
            self._look_in(seconds / _LOOKS)

    def end(self) -> None:
        """Take note that all has come that was waited for."""
        self._is_due = False

    def stop(self) -> None:
        """Look no more: the connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def beat(self, size: int) -> None:
        """Note that so many bytes have come."""
        self.received += size
        self.at = self._loop.time()

    def _look_in(self, seconds: float) -> None:
        self.stop()
        self._looks_at = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._is_due:
            return
        self._look_at_sending()
        left = self.at + self._seconds - self._loop.time()
        if left > 0:
            self.is_over = False
            self._look_in(min(left, self._seconds / _LOOKS))
        elif not self.is_over:
            # A loop that was held up has perhaps not looked yet at what has come meanwhile.
            self.is_over = True
            self._look_in(_LAST_LOOK)
        else:
            self.is_silent = True
            # Whoever waits for the connection hears it.
            self._transport.abort()

    def _look_at_sending(self) -> None:
        """Note whether the peer has taken something of what was sent.

        The last of it does not count: a short message has gone long before anybody looks.
        """
        unsent = self._transport.get_write_buffer_size() + _in_kernel(self._transport)
        if 0 < unsent < self._unsent:
            self.at = self._loop.time()
        self._unsent = unsent


def _in_kernel(transport: Any) -> int:
    """Return how many bytes the kernel still holds for the peer; 0 where it does not tell."""
    sock = transport.get_extra_info("socket")
    if _UNSENT_REQUEST is None or sock is None:
        return 0
    unsent = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), _UNSENT_REQUEST, unsent)
    except (OSError, ValueError):  # ValueError: it is closed
        return 0
    return unsent[0]
