"""A child's start and its first job, for practice: in the zygote, and the start in each spare.

After a fork each page is copied when it is first written to, and objects are written to when they
are merely used (their counts of references). What a spare has written to is its own before anybody
waits for it. CPython notes in the code, and in its cache of methods, what it finds at each place
(PEP 659): what the zygote has noted, children share.
"""

from __future__ import annotations

# What the standard library wraps, to make members of enumerations of what it takes and returns.
import _signal  # type: ignore[import-not-found]  # has no stubs
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from sandboxq.child import interrupts, loop, output, random_state, stacks
from sandboxq.child.activity_page import ActivityPage
from sandboxq.child.arena import ChildArena
from sandboxq.child.cancels import Cancels
from sandboxq.child.frames import CALL, HEADER, READY, RETIRE, encode_call
from sandboxq.child.leftovers import Leftovers
from sandboxq.child.link import Link
from sandboxq.child.loader import Processor
from sandboxq.child.packets import AnswerBuffer
from sandboxq.child.process_state import states_as_forked
from sandboxq.child.sampler import PROFILE_SIGNAL, Sampler
from sandboxq.child.streams import stand_ins
from sandboxq.child.usage import Meter
from sandboxq.sandbox.mechanisms import process

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.job import Job

    # The child's link, and the coordinator's end of it.
    Work = Callable[[Link, socket.socket, output.Capture, interrupts.Interrupts], object]

_ORDER = b"{}"
_OF_LOGGING = "_after_at_fork_child_reinit_locks"
_MUCH = 1 << 40
_OF_NO_FILE = -1  # pages that nobody shares (mmap(2), MAP_ANONYMOUS)


def practise() -> None:
    """Do in the zygote what each child does until it has run a job, where it changes nothing."""
    process.adopt_orphans()
    process.be_ended_first(more=0)
    _renew_locks()
    random_state.reseed()
    rehearse(_work)


def _renew_locks() -> None:
    """Do what Python does after a fork, where that changes nothing: in a process of one thread."""
    if len(sys._current_frames()) == 1:  # noqa: SLF001 - documented, for debuggers
        for module, name in (("threading", "_after_fork"), ("logging", _OF_LOGGING)):
            with suppress(Exception):  # named otherwise: then it is not practised
                getattr(sys.modules[module], name)()


def rehearse(work: Work | None = None) -> None:
    """Make what a child makes, say what it says, to nobody, and leave nothing of it.

    Plainly, and with as little as is possible that a start has not: what is met here is memory of
    each child.
    """
    with suppress(OSError):  # out of descriptors: the start will tell
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with near, far:
            far.send(_ORDER)
            socket.recv_fds(near, 1 << 16, 1)
            mark, meter = ActivityPage(_OF_NO_FILE), Meter()
            link = Link(near, mark, Cancels(-1), near, ChildArena(-1), meter=meter)
            stacks.listen(near.fileno())
            stacks.stop_listening()
            capture = output.Capture(link)
            stand_ins(capture)
            soft = interrupts.Interrupts(link.cancels)
            link.send(READY, 0, usage=meter.read())
            if work is not None:
                work(link, far, capture, soft)
            meter.close()
            mark.close()


def _work(
    link: Link, far: socket.socket, capture: output.Capture, soft: interrupts.Interrupts
) -> None:
    """Run a job that does nothing, and look after it; what runs already is none of its business."""
    states = states_as_forked()
    leftovers = Leftovers(link, states, memory=_MUCH, scratch="", may_leave_processes=True)
    before = _signal.getsignal(interrupts.SOFT_SIGNAL), _signal.getsignal(PROFILE_SIGNAL)
    try:
        Sampler(link, loop.run_call, loop.packet_runner).install()
        soft.install(link)
        output.note_kind()
        link.leftovers = leftovers
        call = encode_call(job_id=b"0", name=b"", data=b"null")
        far.send(HEADER.pack(CALL, 0, 0, 0, 1) + call)
        far.send(HEADER.pack(RETIRE, 0, 0, 0, 0))
        held = AnswerBuffer(link)
        around = link, _NOTHING, _SETTINGS, capture, soft
        loop.serve_calls(link, loop.runner(*around), loop.packet_runner(*around, held))
        held.close()
    finally:
        _signal.signal(interrupts.SOFT_SIGNAL, before[0])
        _signal.signal(PROFILE_SIGNAL, before[1])
        leftovers.close()


def _do_nothing(job: Job) -> None:
    del job


_NOTHING = Processor(_do_nothing, None, None, is_async=False)
_SETTINGS = loop.Settings("", 1, None)
