"""A deadline on silence: each chunk that comes, and each that the peer takes, starts it anew.

A deadline on the whole of an exchange would say how large a job may be for a slow link.
"""

from __future__ import annotations

import array
import asyncio
from typing import TYPE_CHECKING, Any, Self

try:
    import fcntl
    import termios
except ImportError:  # pragma: no cover - Windows has neither
    _UNSENT_REQUEST = None
else:
    _UNSENT_REQUEST = getattr(termios, "TIOCOUTQ", None)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import SupportsIndex

# What is sent moves unseen inside the kernel: it is looked at so often within the time.
_LOOKS = 4
# Seconds in which a loop has surely polled its sockets.
_LAST_LOOK = 0.05


class Pulse:
    """When something last moved on a connection."""

    __slots__ = ("_time", "_transport", "_unsent", "at", "received", "size")

    def __init__(self, transport: Any) -> None:
        """Watch a transport of the running loop."""
        self._time = asyncio.get_running_loop().time
        self._transport = transport
        self.size = self._unsent = 0  # of the message that is sent
        self.received = 0
        self.at = self._time()

    def beat(self, size: int) -> None:
        """Note that so many bytes have come."""
        self.received += size
        self.at = self._time()

    def start(self, size: int) -> None:
        """Note that ``size`` bytes are about to be sent."""
        self.size = self._unsent = size
        self.received = 0
        self.at = self._time()

    def look(self) -> None:
        """Note whether the peer has taken something of what was sent.

        The last of it does not count: a short message has gone long before anybody looks.
        """
        unsent = self._transport.get_write_buffer_size() + _in_kernel(self._transport)
        if 0 < unsent < self._unsent:
            self.at = self._time()
        self._unsent = unsent


class HeardStream(asyncio.StreamReader):
    """A StreamReader that notes when something comes: see ``hear``."""

    pulse: Pulse

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """Take what came."""
        self.pulse.beat(len(data))  # type: ignore[arg-type]  # it is bytes
        super().feed_data(data)


def hear(stream: Any, pulse: Pulse) -> None:
    """Have an open StreamReader note in ``pulse`` when something comes."""
    # redis-py makes its streams itself, and of this very class.
    stream.__class__ = HeardStream
    stream.pulse = pulse


class Silence:
    """Ends what its block waits for when nothing has moved for so long; TimeoutError then."""

    __slots__ = ("_is_over", "_limit", "_loop", "_pulse", "_seconds", "_size", "_timer")

    def __init__(self, pulse: Pulse, seconds: float, *, size: int = 0) -> None:
        """Allow ``seconds`` of silence from now on; ``size`` bytes are about to be sent."""
        self._pulse = pulse
        self._seconds = seconds
        self._size = size
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    async def __aenter__(self) -> Self:
        """Begin."""
        self._pulse.start(self._size)
        await self._limit.__aenter__()
        self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; a TimeoutError takes the place of the cancellation that the silence caused."""
        if self._timer is not None:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _look(self) -> None:
        self._pulse.look()
        left = self._pulse.at + self._seconds - self._loop.time()
        if left > 0:
            self._is_over = False
            self._timer = self._loop.call_later(min(left, self._seconds / _LOOKS), self._look)
        elif not self._is_over:
            # A loop that was held up has perhaps not looked yet at what has come meanwhile.
            self._is_over = True
            self._timer = self._loop.call_later(_LAST_LOOK, self._look)
        else:
            self._timer = None
            self._limit.reschedule(self._loop.time())


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
