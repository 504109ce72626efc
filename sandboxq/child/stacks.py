"""The stack of a child, written by a signal handler in C: whatever holds the interpreter."""

from __future__ import annotations

import faulthandler
import signal
import sys

# On this signal the stacks are written to a descriptor that the coordinator reads them from.
STACKS_SIGNAL = getattr(signal, "SIGRTMAX", signal.SIGUSR2)  # Macs have none
_is_gil_enabled = getattr(sys, "_is_gil_enabled", None)


def listen(fd: int) -> None:
    """Write the stacks of this process to ``fd`` on every STACKS_SIGNAL.

    Without a GIL only that of the main thread: others would change theirs meanwhile.
    """
    has_gil = _is_gil_enabled is None or _is_gil_enabled()
    faulthandler.register(STACKS_SIGNAL, file=fd, all_threads=has_gil)
    # Calls that the signal came into go on; sleeps and polls in C are the kernel's exception.
    signal.siginterrupt(STACKS_SIGNAL, False)  # noqa: FBT003 - its signature


def stop_listening() -> None:
    """Undo ``listen``; the signal ends the process again."""
    faulthandler.unregister(STACKS_SIGNAL)
