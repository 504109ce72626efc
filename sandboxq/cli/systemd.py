"""What systemd is told of a service of Type=notify: sd_notify(3), by the standard library alone.

The watchdog is fed by a timer of the event loop, at half its time: a loop that stands still is
restarted. Without ``$NOTIFY_SOCKET`` nothing is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time

# The same status again is no news, and a new one can wait for so many seconds.
STATUS_SECONDS = 5.0


class Notifier:
    """Sends datagrams, and never waits: what the manager does not take is lost."""

    def __init__(self) -> None:
        """Take what systemd has put into the environment; children of the service find none."""
        place = os.environ.pop("NOTIFY_SOCKET", "")
        usec = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", "")
        is_ours = not pid or pid == str(os.getpid())
        self._watchdog = int(usec) / 1e6 if usec.isdecimal() and is_ours else 0.0
        self._address = "\0" + place[1:] if place.startswith("@") else place
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._status = ""
        if place.startswith(("/", "@")):
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_UNIX, kind)

    @property
    def is_told(self) -> bool:
        """Whether anybody listens."""
        return self._socket is not None

    def ready(self) -> None:
        """Say that jobs are taken, and feed the watchdog from now on."""
        self._send("READY=1")
        if self._watchdog and self._timer is None:
            self._feed()

    def reloading(self) -> None:
        """Say that new code is being loaded; ``ready`` says when that is over."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={usec}")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Say in one line what it does, for `systemctl status`."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def close(self) -> None:
        """Say no more; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _feed(self) -> None:
        self._send("WATCHDOG=1")
        self._timer = asyncio.get_running_loop().call_later(self._watchdog / 2, self._feed)

    def _send(self, text: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), self._address)
