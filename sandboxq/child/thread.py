"""A child that is a thread of the coordinator's process, alone or with an interpreter of its own.

It reads the same messages from the same kind of socket as a child that is a process, and answers
likewise. What it cannot do is end by itself in an instant: ``ThreadEnded`` unwinds it instead.
"""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any, NoReturn

from sandboxq.child import interrupts, loader, loop, output
from sandboxq.child.activity_page import ActivityPage
from sandboxq.child.arena import ChildArena
from sandboxq.child.cancels import Cancels
from sandboxq.child.frames import CALL, ENDS_CHILD, OUT_OF_MEMORY, PING, PONG, RETIRE
from sandboxq.child.link import Link
from sandboxq.child.usage import ThreadMeter
from sandboxq.model.budgets import Budgets
from sandboxq.model.withheld import withhold_redis

if TYPE_CHECKING:
    from collections.abc import Sequence


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
            processor = loader.load_alone(spec)
        except loader.LoadFailed as error:
            loop.report_failed_start(link, "starting an interpreter", error)
            return
        live(link, processor, loop.Settings(*settings), capture)
    except ThreadEnded:
        return
    finally:
        link.close()


def try_alone(spec: str) -> str:
    """Load the processor into this interpreter; return JSON of whether it is async, or why not."""
    try:
        processor = loader.load_processor(spec)
    except loader.LoadFailed as error:
        return json.dumps({"reason": error.reason, "trace": error.trace})
    return json.dumps({"is_async": processor.is_async})
