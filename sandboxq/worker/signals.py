"""SIGTERM and SIGINT, for a worker in a program: the first stops it, as it does the command.

One set of handlers serves all workers of a loop. Handlers that somebody else has set stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("sandboxq.worker")

_NUMBERS = (signal.SIGTERM, signal.SIGINT)
# What the signals of one worker do, first to third.
_STEPS = (
    "no new jobs; running jobs ({running}) have {timeout:g} s to finish. Again: hand them back now",
    "handing back running jobs ({running}) now. Again: kill",
    "killed; its jobs come back as stalled",
)


class Stoppable(Protocol):
    """What is asked of a worker here."""

    @property
    def shutdown_timeout(self) -> float:
        """Seconds that running jobs have to finish."""

    @property
    def running(self) -> int:
        """How many jobs run."""

    def stop(self) -> None:
        """Finish what runs; called again, hand it back now."""

    def kill(self) -> None:
        """Kill the children."""


def end_by_signal(worker: Stoppable, number: signal.Signals, count: int) -> bool:
    """Do what the first, second or third signal asks for; True: the process is to end now."""
    step = min(count, len(_STEPS))
    message = _STEPS[step - 1].format(running=worker.running, timeout=worker.shutdown_timeout)
    _log.warning("%s: %s", number.name, message)
    if step < len(_STEPS):
        worker.stop()
        return False
    worker.kill()
    return True


@contextlib.contextmanager
def ended_by_signals(worker: Stoppable) -> Iterator[None]:
    """Have the signals end a worker while the block runs; in the main thread, else nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    listener = _listeners.setdefault(loop, _Listener(loop))
    listener.add(worker)
    try:
        yield
    finally:
        if listener.remove(worker):
            del _listeners[loop]  # it holds the loop


class _Listener:
    """The handlers of a loop, while a worker runs in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._add, self._remove = loop.add_signal_handler, loop.remove_signal_handler
        self._workers: dict[Stoppable, int] = {}
        self._former: dict[signal.Signals, Any] = {}

    def add(self, worker: Stoppable) -> None:
        """Signals end this one too, from now on."""
        if not self._workers:
            self._listen()
        self._workers[worker] = 0

    def remove(self, worker: Stoppable) -> bool:
        """Forget one that has ended; after the last one everything is as it was. Tell if it was."""
        del self._workers[worker]
        if self._workers:
            return False
        self._leave()
        return True

    def _listen(self) -> None:
        for number in _NUMBERS:
            former = signal.getsignal(number)
            if _is_default(former):
                self._add(number, self._on_signal, number)
                self._former[number] = former

    def _leave(self) -> None:
        for number, former in self._former.items():
            self._remove(number)
            signal.signal(number, former)
        self._former.clear()

    def _on_signal(self, number: signal.Signals) -> None:
        is_over = False
        for worker in self._workers:
            self._workers[worker] += 1
            is_over |= end_by_signal(worker, number, self._workers[worker])
        if is_over:
            # What it does where no worker runs: end the process, or the program's main task.
            self._leave()
            signal.raise_signal(number)


_listeners: dict[asyncio.AbstractEventLoop, _Listener] = {}


def _is_default(handler: Any) -> bool:
    """Tell whether a handler is Python's own, or that of asyncio.run."""
    if handler in {signal.SIG_DFL, signal.default_int_handler}:
        return True
    return isinstance(getattr(getattr(handler, "func", handler), "__self__", None), asyncio.Runner)
