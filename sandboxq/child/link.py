"""The child's end of its socket: whole messages out (in: inbox.py).

Over it running jobs report, within their budgets (new data above them is refused, as it would be
missed), and ask the coordinator, which has Redis: a REQUEST goes out, a RESPONSE comes in. Answers
have a socket of their own, so that a job that waits for one reads no calls.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from sandboxq.child.frames import (
    CHUNK_SIZE,
    DATA,
    LOG,
    MESSAGE_LIMIT,
    MORE,
    NOT_MEASURED,
    REPLY,
    REQUEST,
    Usage,
    decode_response,
    encode_request,
    response_number,
)
from sandboxq.child.inbox import Inbox
from sandboxq.child.usage import Meter, ThreadMeter
from sandboxq.errors import QueueError, ResultTooLarge, UsageError
from sandboxq.model.job_limits import DEFAULT_BUDGETS

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from types import FrameType

    from sandboxq.child.activity_page import ActivityPage
    from sandboxq.child.arena import ChildArena
    from sandboxq.child.cancels import Cancels
    from sandboxq.child.usage import TurnMeter

T = TypeVar("T")


class Batch(Protocol):
    """Answers that are gathered, to be sent together (packets.py)."""

    def takes(self, payload: bytes, microseconds: int) -> bool:
        """Tell whether a value may wait."""

    def add(self, seq: int, payload: bytes, microseconds: int, began: int, ended: int) -> None:
        """Hold a value."""

    def flush(self) -> None:
        """Send what there is."""

    def flush_before(self, had_used: Usage, usage: Usage) -> None:
        """Send what there is before the answer of a job that was measured alone."""

    def close(self) -> None:
        """Give up its memory."""


class LooksAfter(Protocol):
    """Who looks for what jobs leave behind (leftovers.py)."""

    due: int
    is_behind: bool
    unheard: dict[str, Any]

    def look_after(self, seq: int = 0) -> None:
        """Look now: a job has ended."""

    def fall_behind(self) -> None:
        """Look later."""

    def catch_up(self) -> None:
        """Look for all that have ended since the last look."""

    def heed(self, seq: int) -> None:
        """Note that a job has ended that may have left something."""


class Samples(Protocol):
    """Who samples where jobs are (sampler.py)."""

    # Set by an event loop: where the tasks of a job are that waits, the innermost frame first.
    waiting: Callable[[int], Sequence[tuple[str, list[FrameType]]]] | None

    def end(self, seq: int) -> None:
        """Tell what was sampled of a call that ends."""


class Asking(Protocol):
    """Who asks the coordinator for jobs: ``Questions``, or that of an event loop (steps.py)."""

    def ask(self, seq: int, question: int, argument: bytes, decode: Callable[[Any], Any]) -> Any:
        """Return the answer, or what to await for it."""


class Link(Inbox):
    """Reads calls and writes replies. Any thread of the job may write."""

    # Whether fd 1 and 2 are pipes that the coordinator reads.
    has_pipes = True
    # Flags that an answer never has: they announce what this kind of child does not do.
    withheld = 0

    def __init__(
        self,
        sock: socket.socket,
        mark: ActivityPage,
        cancels: Cancels,
        answers: socket.socket,
        arena: ChildArena | None = None,
        *,
        meter: Meter | ThreadMeter | None = None,
    ) -> None:
        """Take over the sockets; ``answers`` is where those to the job's questions arrive."""
        super().__init__(sock)
        self.mark = mark
        self.begin = mark.begin
        self.resume: Callable[..., None] = _do_nothing
        self.page = -1  # memory for stacks and for what is sampled
        self.meter: Meter | ThreadMeter | TurnMeter = meter or Meter()
        self.cancels = cancels
        self.arena = arena
        # While a packet of several calls is worked off: where their answers are gathered.
        self.held: Batch | None = None
        self.tokens = -1  # an eventfd: which of those calls may begin
        # Set by whatever is sent: what a call has said must not be overtaken by its answer.
        self.has_spoken = False
        # Calls that have sent a log row: what they print then goes the same way, to come after it.
        self.logged: set[int] = set()
        self._pid = os.getpid()
        # A message of several packets must not be mixed with one of another thread. A handler of
        # a signal that comes meanwhile, in the thread that has the lock, may speak too.
        self.lock = threading.RLock()
        self.answers = Inbox(answers)
        self.budgets = DEFAULT_BUDGETS
        self.reports = Reports(self)
        self.questions: Asking = Questions(self, self.answers)
        self.leftovers: LooksAfter | None = None  # who looks after jobs, where somebody does

    def is_ours(self) -> bool:
        """Tell whether this is the child: what a job forked shares the socket, not the calls."""
        return os.getpid() == self._pid

    def leave(self) -> NoReturn:
        """End this child: its coordinator is gone, or wants no more of it."""
        os._exit(0)

    def send(
        self,
        kind: int,
        seq: int,
        payload: bytes = b"",
        *,
        flags: int = 0,
        detail: int = 0,
        microseconds: int = 0,
        usage: Usage = NOT_MEASURED,
    ) -> None:
        """Send one message; when the coordinator is gone there is nothing left to do but leave."""
        self.has_spoken = True
        try:
            if len(payload) <= CHUNK_SIZE:
                header = REPLY.pack(kind, flags, detail, microseconds, seq, *usage)
                with self.lock:
                    self._insist(self._socket.send, header + payload)
                return
            with self.lock:
                header = REPLY.pack(kind, flags | MORE, detail, microseconds, seq, *usage)
                self._send_chunks(header, payload)
        except (BrokenPipeError, ConnectionResetError):
            self.leave()

    def answer(self, kind: int, seq: int, payload: bytes, *, detail: int) -> None:
        """Send what is no answer to one call, behind those that were held back."""
        if self.held is not None:
            self.held.flush()
        self.send(kind, seq, payload, detail=detail)

    def end(
        self, kind: int, seq: int, payload: bytes, microseconds: int, flags: int, detail: int = 0
    ) -> None:
        """Send the answer to a call, with what it has used, behind those that were held back."""
        meter = self.meter
        had_used = meter.latest
        usage = meter.read(microseconds)
        if self.held is not None:
            self.held.flush_before(had_used, usage)
        self.send(
            kind, seq, payload, flags=flags, detail=detail, microseconds=microseconds, usage=usage
        )
        meter.start_peak_anew()

    def send_whole(self, packet: memoryview) -> None:
        """Send a packet that has its header."""
        try:
            with self.lock:
                self._insist(self._socket.send, packet)
        except (BrokenPipeError, ConnectionResetError):
            self.leave()

    def _send_chunks(self, header: bytes, payload: bytes) -> None:
        view = memoryview(payload)
        last = (len(view) - 1) // CHUNK_SIZE * CHUNK_SIZE
        for start in range(0, last, CHUNK_SIZE):
            self._insist(self._socket.sendmsg, (header, view[start : start + CHUNK_SIZE]))
        kind, flags, *rest = REPLY.unpack(header)
        final = REPLY.pack(kind, flags & ~MORE, *rest)
        self._insist(self._socket.sendmsg, (final, view[last:]))

    def _insist(self, send: Callable[[Any], int], packet: Any) -> None:
        """Send a packet, and wait where a coordinator that is behind leaves no room for it.

        The socket is made to wait by itself, but uvloop, as it begins to watch, makes it refuse.
        """
        while True:
            try:
                send(packet)
            except BlockingIOError:
                room = select.poll()
                room.register(self._socket, select.POLLOUT)
                room.poll()
            else:
                return


def _do_nothing(_: object = None) -> None:
    """Nothing was postponed."""


class Reports:
    """Sends the reports of all jobs of one child."""

    __slots__ = ("_link", "runs", "said", "sampler")

    def __init__(self, link: Link) -> None:
        """Send over ``link``, within its budgets."""
        self._link = link
        self.runs: Callable[[int], bool] = bool  # which calls run: Capture knows
        self.said: dict[int, list[int]] = {}  # by call: reports, their bytes, those dropped
        self.sampler: Samples | None = None

    def send(self, kind: int, seq: int, payload: bytes) -> None:
        """Send progress, a row or new data, unless the job has said too much, or is over.

        Raises:
            ResultTooLarge: it is longer than a message may be, or new data above the budget.
        """
        size = len(payload)
        if size > MESSAGE_LIMIT:
            message = f"{size} bytes are more than the {MESSAGE_LIMIT} that a message may have"
            raise ResultTooLarge(message)
        if not self.runs(seq):
            return  # a thread that the job has left
        budgets = self._link.budgets
        said = self.said.setdefault(seq, [0, 0, 0])
        if said[0] >= budgets.reports or said[1] + size > budgets.report_bytes:
            said[2] += 1
            if kind == DATA:
                raise ResultTooLarge(self._refusal(said, size))
            return
        said[0] += 1
        said[1] += size
        if kind == LOG:
            self._link.logged.add(seq)
        self._link.send(kind, seq, payload)

    def _refusal(self, said: list[int], size: int) -> str:
        budgets = self._link.budgets
        return (
            f"the job's reports may be {budgets.reports} with {budgets.report_bytes} bytes "
            f"together; there were {said[0]} with {said[1]}, and this has {size}: report "
            "less, or raise max_reports and max_report_bytes of the worker"
        )

    def expect_end(self, seq: int) -> None:
        """Have ``end`` called for a job that has said nothing: its sampler waits for that."""
        self.said.setdefault(seq, [0, 0, 0])

    def end(self, seq: int) -> None:
        """Forget a job, and say in its log how much was dropped."""
        if self.sampler is not None:
            self.sampler.end(seq)
        _, _, dropped = self.said.pop(seq, (0, 0, 0))
        if dropped:
            budgets = self._link.budgets
            row = (
                f"… {dropped} more reports of this job were dropped: it may make {budgets.reports} "
                f"with {budgets.report_bytes} bytes together (max_reports, max_report_bytes)"
            )
            self._link.send(LOG, seq, row.encode())


class Questions:
    """For processors that are plain functions: who asks is held up until the answer is there."""

    def __init__(self, link: Link, inbox: Inbox) -> None:
        """Ask over ``link``, read answers from ``inbox``."""
        self._inbox = inbox
        self._link = link
        self._number = 0
        # Threads of the job take turns: there is one socket to read from.
        self._lock = threading.RLock()
        self._is_asking = False

    def ask(self, seq: int, question: int, argument: bytes, decode: Callable[[Any], T]) -> T:
        """Return the answer, decoded.

        Raises:
            QueueError: Redis, or the coordinator, refused.
            UsageError: a process that the job forked cannot ask, nor a handler of a signal while
                its thread asks.
        """
        refuse_fork(self._link)
        with self._lock:
            if self._is_asking:  # by this thread: it would wait for ever for what comes next
                message = "a handler of a signal cannot ask the worker while the job asks it"
                raise UsageError(message)
            self._is_asking = True
            try:
                self._number += 1
                number = self._number
                request = encode_request(number, argument)
                self._link.send(REQUEST, seq, request, detail=question)
                payload = self._answer_to(number)
            finally:
                self._is_asking = False
        return decode(replies_from(payload))

    def _answer_to(self, number: int) -> bytes:
        while True:
            message = self._inbox.receive()
            if message is None:
                self._link.leave()
            payload = message[2]
            # One that was interrupted while it waited has left its answer behind.
            if response_number(payload) == number:
                return payload


def refuse_fork(link: Link) -> None:
    """Raise UsageError in a process that the job forked: it would take the answers of the job."""
    if not link.is_ours():
        message = "a process that the job forked cannot ask the worker anything: ask before"
        raise UsageError(message)


def replies_from(payload: bytes) -> Any:
    """Return the replies of Redis in a RESPONSE. Raises: QueueError with the text of a refusal."""
    replies, refusal = decode_response(payload)
    if refusal is not None:
        raise QueueError(refusal)
    return replies
