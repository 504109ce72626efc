"""A start for practice: what it writes to is this process's own before anybody waits for it.

After a fork each page is copied when it is first written to, and objects are written to when they
are merely used (their counts of references). A start meets some two hundred such pages.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import ExitStack, suppress

from sandboxq.child import output, stacks
from sandboxq.child.arena import ChildArena
from sandboxq.child.cancels import Cancels, open_cancels
from sandboxq.child.frames import READY
from sandboxq.child.interrupts import Interrupts
from sandboxq.child.link import Link
from sandboxq.child.mark import Mark, open_mark
from sandboxq.child.process_state import limits_now, states_now
from sandboxq.child.strays import Processes, Threads
from sandboxq.child.usage import Meter

_ORDER = json.dumps({"op": "spawn", "steps": [["scratch", "/"], ["data", 1]], "memory": None})


def rehearse() -> None:
    """Make what a child makes, say what it says, to nobody, and leave nothing of it."""
    with suppress(OSError), ExitStack() as opened:  # out of descriptors: the start will tell
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        opened.enter_context(near)
        opened.enter_context(far)
        mark_fd, (cancels, other_end) = open_mark(), open_cancels()
        for fd in (mark_fd, cancels, other_end):
            opened.callback(os.close, fd)
        socket.send_fds(near, [_ORDER.encode()], [mark_fd])
        raw, fds, _, _ = socket.recv_fds(far, 1 << 16, 1)
        json.loads(raw)
        mark = Mark(fds[0])
        opened.callback(os.close, fds[0])
        opened.callback(mark.close)
        meter = Meter()
        opened.callback(meter.close)
        link = Link(near, mark, Cancels(cancels), far, ChildArena(-1), meter=meter)
        stacks.listen(other_end)
        stacks.stop_listening()
        output.stand_ins(output.Capture(link))
        Interrupts(link.cancels)
        for look in (states_now, limits_now, Threads, Processes):
            look()
        link.send(READY, 0, usage=link.meter.read())
