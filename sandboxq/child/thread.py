"""A child that is a thread of the coordinator's process, alone or with an interpreter of its own.

It reads the same messages from the same kind of socket as a child that is a process, and answers
likewise. What it cannot do is end by itself in an instant: ``ThreadEnded`` unwinds it instead.

What jobs in threads print and log is told from what the coordinator prints by their context.

print, sys.stderr ─► RoutedStream ─► the thread's Capture, or the real stream
logging ───────────► RoutedLog ────► the thread's Capture, or what was there before
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

from sandboxq.child import interrupts, loader, loop, output
from sandboxq.child.activity_page import ActivityPage
from sandboxq.child.arena import ChildArena
from sandboxq.child.cancels import Cancels
from sandboxq.child.frames import (
    CALL,
    ENDS_CHILD,
    OUT_OF_MEMORY,
    PING,
    PONG,
    RETIRE,
    STDERR,
    STDOUT,
)
from sandboxq.child.link import Link
from sandboxq.child.streams import LineWriter, LogLines
from sandboxq.child.usage import ThreadMeter
from sandboxq.model.job_limits import Budgets, withhold_redis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.child.output import Capture

# Threads that a job starts have a context of their own: what they print is not the job's.
_mine: ContextVar[Capture | None] = ContextVar("sandboxq_capture", default=None)
_lock = threading.Lock()
_users = 0


class ThreadEnded(SystemExit):
    """Raised where a process would exit: the coordinator wants no more of this thread."""

    is_unwinding = True  # no job has raised it, and nothing is to catch it


class ThreadLink(Link):
    """The thread's end of its sockets; it owns its descriptors."""

    has_pipes = False
    # A process would leave after these; a thread has nothing to give back.
    withheld = OUT_OF_MEMORY | ENDS_CHILD

    def __init__(self, fds: Sequence[int]) -> None:
        """Take over socket, mark, pipe of cancelled calls, socket of answers, arena."""
        sock, mark, cancels, answers, arena = fds
        self._has_left = False
        self._sockets = [
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd)
            for fd in (sock, answers)
        ]
        self._mark = ActivityPage(mark)
        self._fds = [mark, cancels]
        self._arena = ChildArena(arena)
        super().__init__(
            self._sockets[0],
            self._mark,
            Cancels(cancels),
            self._sockets[1],
            self._arena,
            meter=ThreadMeter(),
        )

    def leave(self) -> NoReturn:
        """Unwind this thread, whatever it is at."""
        self._has_left = True
        raise ThreadEnded

    def send(self, *message: Any, **more: Any) -> None:
        """Send one message; nobody hears what jobs say that are unwound."""
        if not self._has_left:
            super().send(*message, **more)

    def send_whole(self, packet: memoryview) -> None:
        """Send a packet that has its header, as ``send`` does."""
        if not self._has_left:
            super().send_whole(packet)

    def close(self) -> None:
        """Give back every descriptor."""
        for sock in self._sockets:
            sock.close()
        self._mark.close()
        self._arena.close()
        for fd in self._fds:
            os.close(fd)


def live(
    link: ThreadLink, processor: loader.Processor, settings: loop.Settings, capture: output.Capture
) -> None:
    """Run calls until the coordinator retires this child, or has given it up."""
    link.budgets = Budgets(*settings.budgets)  # type: ignore[arg-type]  # they are in this order
    if settings.withholds_redis:
        withhold_redis()
    if processor.is_async:
        from sandboxq.child.async_loop import live_async  # noqa: PLC0415 - asyncio only where it is used

        live_async(link, processor, settings, capture)
        return
    if not loop.start(link, processor.setup):
        return
    soft = interrupts.Interrupts(link.cancels)  # not installed: no signal reaches a thread
    while True:
        message = link.receive()
        if message is None:
            return
        kind, seq, payload = message
        if kind == CALL:
            loop.run_call(link, processor, settings, capture, soft, payload, seq)
        elif kind == PING:
            link.send(PONG, 0)
        elif kind == RETIRE:
            break
    if processor.teardown is not None:
        processor.teardown()


# ── in an interpreter of its own ──


def live_alone(fds: Sequence[int], spec: str, settings: Sequence[Any]) -> None:
    """Load the processor into this interpreter, and run calls."""
    link = ThreadLink(fds)
    try:
        capture = output.Capture(link)
        output.install(capture)
        try:
            processor = loader.load_alone(spec, settings[0])
        except loader.LoadFailed as error:
            loop.report_failed_start(link, "starting an interpreter", error)
            return
        live(link, processor, loop.Settings(*settings), capture)
    except ThreadEnded:
        return
    finally:
        link.close()


def try_alone(spec: str, queue: str) -> str:
    """Load the processor into this interpreter; return JSON of whether it is async, or why not."""
    try:
        processor = loader.load_processor(spec, queue)
    except loader.LoadFailed as error:
        return json.dumps({"reason": error.reason, "trace": error.trace})
    return json.dumps({"is_async": processor.is_async})


def route_to(capture: Capture) -> None:
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


_installed: _Installed | None = None


def install_streams() -> None:
    """Tell jobs' output from the coordinator's from now on; once more for each pool."""
    global _users, _installed  # noqa: PLW0603 - the process has one pair of streams
    with _lock:
        _users += 1
        if _installed is None:
            _installed = _Installed()


def remove_streams() -> None:
    """Undo one ``install_streams``."""
    global _users, _installed  # noqa: PLW0603 - as above
    with _lock:
        _users -= 1
        if not _users and _installed is not None:
            _installed.remove()
            _installed = None
