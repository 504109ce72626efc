"""A deadline on silence: each chunk that comes, and each that the peer takes, starts it anew.

A deadline on the whole of an exchange would say how large a job may be for a slow link.
"""

from __future__ import annotations

import array
import asyncio
from typing import TYPE_CHECKING, Any

try:
    import fcntl
    import termios
except ImportError:  # pragma: no cover - Windows has neither
    _UNSENT_REQUEST = None
else:
    _UNSENT_REQUEST = getattr(termios, "TIOCOUTQ", None)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import SupportsIndex

# What is sent moves unseen inside the kernel: it is looked at so often within the time.
_LOOKS = 4
# Seconds in which a loop has surely polled its sockets.
_LAST_LOOK = 0.05


class Pulse:
    """When something last moved on a connection, and its end when nothing has for too long."""

    __slots__ = (
        "_loop", "_seconds", "_timer", "_transport", "_unsent", "at", "is_over", "is_silent",
        "received", "size",
    )  # fmt: skip

    def __init__(self, transport: Any) -> None:
        """Watch a transport of the running loop."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._timer: asyncio.TimerHandle | None = None
        self.size = self._unsent = 0  # of the message that is sent
        self.received = 0
        self.is_over = self.is_silent = False
        self.at = 0.0

    def begin(self, seconds: float, size: int) -> None:
        """Abort the connection after ``seconds`` of silence; ``size`` bytes are about to be sent.

        ``is_silent`` tells of it then; ``end`` is to be called in any case.
        """
        loop = self._loop
        self.size = self._unsent = size
        self.received = 0
        self.is_over = False
        self._seconds = seconds
        self.at = loop.time()
        self._timer = loop.call_later(seconds / _LOOKS, self._look)

    def end(self) -> None:
        """Take note that all has come that was waited for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def beat(self, size: int) -> None:
        """Note that so many bytes have come."""
        self.received += size
        self.at = self._loop.time()

    def _look(self) -> None:
        self._look_at_sending()
        now = self._loop.time()
        left = self.at + self._seconds - now
        if left > 0:
            self.is_over = False
            self._timer = self._loop.call_later(min(left, self._seconds / _LOOKS), self._look)
        elif not self.is_over:
            # A loop that was held up has perhaps not looked yet at what has come meanwhile.
            self.is_over = True
            self._timer = self._loop.call_later(_LAST_LOOK, self._look)
        else:
            self._timer = None
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


class HeardStream(asyncio.StreamReader):
    """A StreamReader that notes when something comes: see ``hear``."""

    pulse: Pulse

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Take what came."""
        pulse = self.pulse
        pulse.received += len(data)  # type: ignore[arg-type]  # it is bytes
        pulse.at = self._loop.time()  # type: ignore[attr-defined]  # of its base class
        super().feed_data(data)


def hear(stream: Any, pulse: Pulse) -> None:
    """Have an open StreamReader note in ``pulse`` when something comes."""
    # redis-py makes its streams itself, and of this very class.
    stream.__class__ = HeardStream
    stream.pulse = pulse


def _in_kernel(transport: Any) -> int:
    """Return how many bytes the kernel still holds for the peer; 0 where it does not tell."""
    sock = transport.get_extra_info("socket")
    if _UNSENT_REQUEST is None or sock is None:
        return 0
    unsent = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), _UNSENT_REQUEST, unsent)
    except OSError:
        return 0
    return unsent[0]
