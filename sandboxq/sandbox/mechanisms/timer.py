"""A timer of the kernel that sends a signal to one thread (man 2 timer_create).

Unlike setitimer(2) it takes nothing that a job may use: there may be many of them. What it has sent
is forgotten by the kernel when the process replaces its program, and no fork inherits it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
import time

_NUMBERS = {"x86_64": (222, 223, 226), "aarch64": (107, 110, 111)}
_SIGEV_THREAD_ID = 4
_SIGEVENT = struct.Struct("@Qiii44x")
_ITIMERSPEC = struct.Struct("@4l")
# Looked up now: in a child that would count as a job that calls C.
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_NANO = 1_000_000_000

WALL, CPU = time.CLOCK_MONOTONIC, 2  # CLOCK_PROCESS_CPUTIME_ID, which Macs number otherwise


class ThreadTimer:
    """Sends a signal to the thread that has made it, again and again."""

    def __init__(self, clock: int, signal: int) -> None:
        """Make it for a clock; it does not run. Raises: OSError."""
        create, self._set, self._delete = _NUMBERS.get(platform.machine(), (-1, -1, -1))
        event = _SIGEVENT.pack(0, signal, _SIGEV_THREAD_ID, threading.get_native_id())
        self._id = ctypes.c_int(-1)
        _call(create, ctypes.c_int(clock), event, ctypes.byref(self._id))

    def start(self, period_ns: int) -> None:
        """Send the signal after so many nanoseconds of the clock, and then so often."""
        times = divmod(period_ns, _NANO)
        _call(self._set, self._id, ctypes.c_int(0), _ITIMERSPEC.pack(*times, *times), None)

    def close(self) -> None:
        """Stop it; twice is harmless."""
        if self._id.value >= 0:
            _call(self._delete, self._id)
            self._id.value = -1


def _call(number: int, *arguments: object) -> None:
    if _syscall(ctypes.c_long(number), *arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
