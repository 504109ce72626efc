"""What jobs in threads print and log, told from what the coordinator prints: by their context.

print, sys.stderr ─► RoutedStream ─► the thread's Capture, or the real stream
logging ───────────► RoutedLog ────► the thread's Capture, or what was there before
"""

from __future__ import annotations

import logging
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sandboxq.child.frames import STDERR, STDOUT
from sandboxq.child.output import LineWriter, LogLines

if TYPE_CHECKING:
    from sandboxq.child.output import Capture

# Threads that a job starts have a context of their own: what they print is not the job's.
_mine: ContextVar[Capture | None] = ContextVar("sandboxq_capture", default=None)


def claim(capture: Capture) -> None:
    """Attribute what this context prints from now on to ``capture``."""
    _mine.set(capture)


def is_claimed() -> bool:
    """Tell whether what this context prints is that of a job."""
    return _mine.get() is not None


class _Router:
    """Stands for the Capture of whoever prints."""

    def write(self, stream: int, text: str) -> bool:
        capture = _mine.get()
        return capture is not None and capture.write(stream, text)

    def flush(self, stream: int) -> bool:
        capture = _mine.get()
        return capture is not None and capture.flush(stream)

    def resume(self) -> None:
        """Nothing is postponed in a thread."""


class RoutedStream(LineWriter):
    """Stands for ``sys.stdout`` or ``sys.stderr`` of a process that runs jobs in threads."""

    @property
    def buffer(self) -> Any:
        """The stream of bytes: the real one, but for jobs."""
        return super().buffer if is_claimed() else self._underneath.buffer

    def reconfigure(self, **options: Any) -> None:
        """Change the real stream, but for jobs."""
        if not is_claimed():
            self._underneath.reconfigure(**options)

    def isatty(self) -> bool:
        """Tell whether the real stream is a terminal."""
        return bool(self._underneath.isatty())


class RoutedLog(LogLines):
    """Takes the place of logging's last resort."""

    def __init__(self, router: Any, former: logging.Handler | None) -> None:
        """Pass on to ``former`` what no job logs."""
        super().__init__(router)
        self._abandoned = former

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record to where it belongs."""
        if _mine.get() is not None:
            super().emit(record)
        elif self._abandoned is not None and record.levelno >= self._abandoned.level:
            self._abandoned.handle(record)


class _Installed:
    """The streams while any pool has threads."""

    def __init__(self) -> None:
        router: Any = _Router()
        self._streams = sys.stdout, sys.stderr
        self._routed = (
            RoutedStream(router, STDOUT, sys.stdout),
            RoutedStream(router, STDERR, sys.stderr),
        )
        self._last_resort = logging.lastResort
        self._level = logging.root.level
        sys.stdout, sys.stderr = self._routed
        _move_handlers(self._streams, self._routed)
        self._log = RoutedLog(router, self._last_resort)
        logging.lastResort = self._log
        if not logging.root.handlers and logging.root.level == logging.WARNING:
            logging.root.setLevel(logging.INFO)

    def remove(self) -> None:
        """Put back what was there, unless somebody else has put something in its place."""
        if sys.stdout is self._routed[0]:
            sys.stdout = self._streams[0]
        if sys.stderr is self._routed[1]:
            sys.stderr = self._streams[1]
        _move_handlers(self._routed, self._streams)
        if logging.lastResort is self._log:
            logging.lastResort = self._last_resort
        logging.root.setLevel(self._level)


def _move_handlers(old: tuple[Any, Any], new: tuple[Any, Any]) -> None:
    """Give handlers of the root logger the new streams: they hold those of their time."""
    for handler in logging.root.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream in old:
            handler.setStream(new[0] if handler.stream is old[0] else new[1])


_lock = threading.Lock()
_users = 0
_installed: _Installed | None = None


def install() -> None:
    """Tell jobs' output from the coordinator's from now on; once more for each pool."""
    global _users, _installed  # noqa: PLW0603 - the process has one pair of streams
    with _lock:
        _users += 1
        if _installed is None:
            _installed = _Installed()


def remove() -> None:
    """Undo one ``install``."""
    global _users, _installed  # noqa: PLW0603 - as above
    with _lock:
        _users -= 1
        if not _users and _installed is not None:
            _installed.remove()
            _installed = None
