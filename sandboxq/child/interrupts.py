"""The coordinator's word that a job is to end, as an exception in the job's code.

The number of the call stands in the pipe of ``cancels`` before the signal is sent, so a signal that
comes late, when another call runs, interrupts nobody. It is raised once a call and nowhere but in
the processor: ``armed`` is set while that runs, and taken back by whoever is first.
"""

from __future__ import annotations

# What the standard library wraps, to make members of enumerations of what it takes and returns.
import _signal  # type: ignore[import-not-found]  # has no stubs
import signal
import threading
from typing import TYPE_CHECKING

from sandboxq.child.cancels import Cancels
from sandboxq.child.link import Link
from sandboxq.child.output import Capture
from sandboxq.errors import JobCancelled, JobTimeout

if TYPE_CHECKING:
    from types import FrameType

# Programs use the lower ones.
SOFT_SIGNAL = getattr(signal, "SIGRTMAX", signal.SIGUSR2) - 1  # Macs have none, and no children

# Half a message, or half of what the pipe said, must not stay behind; ``resume`` raises after it.
WHOLE = {
    function.__code__
    for function in (
        *(Link.send, Cancels.read, Cancels.tell),
        *(Capture.write, Capture.flush, Capture.end),
    )
}


class Interrupts:
    """Raises JobTimeout or JobCancelled in the main thread of a ``def`` processor."""

    __slots__ = ("_cancels", "_is_postponed", "armed")

    def __init__(self, cancels: Cancels) -> None:
        """Look in ``cancels`` whether a signal is meant."""
        self._cancels = cancels
        self._is_postponed = False
        self.armed = 0  # the call whose processor runs

    def install(self, link: Link) -> None:
        """Hear the signal, now or when ``link`` is done with what may not be interrupted."""
        link.resume = self.resume
        _signal.signal(SOFT_SIGNAL, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number
        if is_in_whole(frame):
            self._is_postponed = True
        else:
            self._interrupt()

    def resume(self, frame: FrameType | None = None) -> None:
        """Interrupt now if the signal came at a moment when that could not be.

        ``frame`` is what another handler of a signal has interrupted, which resumes this one.
        """
        if self._is_postponed and threading.current_thread() is threading.main_thread():
            if is_in_whole(frame):
                return
            self._is_postponed = False
            self._interrupt()

    def _interrupt(self) -> None:
        seq = self.armed
        if not seq or not self._cancels.may_interrupt(seq):
            return
        self.armed = 0
        if self._cancels.tell_timeout(seq):
            message = "the job's time is up"
            raise JobTimeout(message)
        message = "the job was cancelled"
        raise JobCancelled(message)


def ignore() -> None:
    """Be deaf to the signal: an event loop hears of cancelled calls by their pipe."""
    _signal.signal(SOFT_SIGNAL, _signal.SIG_IGN)


def is_in_whole(frame: FrameType | None) -> bool:
    """Tell whether a frame is within what must not be interrupted."""
    while frame is not None:
        if frame.f_code in WHOLE:
            return True
        frame = frame.f_back
    return False
