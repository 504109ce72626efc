"""Owns every call of a pool: its state, and the only transitions.

    put ─► reserve ──send──► a child's ──begin──► (its clock runs) ──answer──► ended
              ▲                 │                      │
              └────take_back────┴──────────────────────┘       drop, remove ─► ended
                                                               give_up ─► as new, somebody else's

A call is in exactly one place until it has ended, and ends once. No other module changes what a
child has (``Child.flying``), the reserve, or the state of a call. Question is what a running job
asks of the coordinator.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from sandboxq.child.frames import MESSAGE_LIMIT, encode_refusal, encode_response

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandboxq.errors import ChildError
    from sandboxq.model.outcome import Completed, Outcome


# Seconds: the whole tree is gone 0.3 s after the deadline, also on a busy machine.
TIMEOUT_GRACE = 0.15


class CallState(enum.Enum):
    """Where a call is; only this module changes it."""

    NEW = "new"
    RESERVED = "reserved"  # no child has it
    SENT = "sent"  # a child has it, and perhaps runs it
    BEGUN = "begun"  # its clock runs, as far as the coordinator can tell
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Call:
    """One run of a job. ``key`` is the job's id, ``payload`` comes from ``frames.encode_call``.

    ``context`` is the caller's; so are ``timeout``, how long it may run, and ``grace``, how long
    after that it is killed, both in seconds. The rest is the pool's: ``number`` is the order of
    submission, ``submitted_at``, ``sent_at`` and ``begun_at`` are seconds of the loop's clock,
    ``unbegun`` counts children that died with it before it began, ``is_packed`` tells that it
    shares a packet, ``usage`` is what it has used once it has ended: µs in all, µs of CPU in its
    code and in the kernel, bytes at the peak.
    ``ending`` is why it is to end, asked for at ``asked_at``; it is killed at ``kill_at``.
    ``blob`` has the arrays and bytes of its data, held until its end: it may be sent again.
    """

    key: bytes
    payload: bytes
    context: Any = None
    number: int = 0
    seq: int = 0
    submitted_at: float = 0.0
    sent_at: float = 0.0
    lines: int = 0
    unbegun: int = 0
    timeout: float | None = None
    grace: float = TIMEOUT_GRACE
    begun_at: float = 0.0
    ending: ChildError | None = None
    asked_at: float = 0.0
    kill_at: float = inf
    usage: tuple[int, int, int, int] | None = None
    blob: CallBlob | None = None
    is_packed: bool = False
    state: CallState = CallState.NEW


class CallBlob(Protocol):
    """The arrays and bytes of a job's data: one buffer, and the table of what is in it."""

    view: memoryview
    table: bytes


# A number, µs that it ran, and what it returned.
Answer = tuple[int, int, "Completed"]
# A call, what it returned, and its usage.
End = tuple[Call, "Completed", tuple[int, int, int, int]]


class PoolListener(Protocol):
    """Told by the pool, on the loop's thread; must not block, and may submit at once.

    One that has ``on_values`` gets there what jobs of microseconds returned: a sequence of End for
    those of a packet.
    """

    def on_outcome(self, call: Call, outcome: Outcome, seconds: float) -> None:
        """Take the end of a call, which ran ``seconds``."""

    def on_report(self, call: Call, kind: str, payload: bytes) -> None:
        """Take a report of a running call: ``kind`` is progress, log or data."""

    def wants_reports(self) -> bool:
        """Tell whether more may come now; else children that report are not read for a while."""

    def on_question(self, question: Question) -> None:
        """Take a question of a running call; it must be answered."""

    def on_lines(self, call: Call | None, pid: int, stream: str, lines: list[str]) -> None:
        """Take lines that a child printed or logged; ``call`` is None outside a job."""

    def on_room(self) -> None:
        """React to a ``Pool.room`` that may have grown."""


class Holder(Protocol):
    """A child, as far as ``Calls`` needs it."""

    flight: dict[int, Call]

    @property
    def arena(self) -> Frees:
        """Where the blobs of its calls are."""


class Frees(Protocol):
    """Memory with the blobs of calls."""

    def free(self, call: Call) -> None:
        """Give back the place of a call's blob."""


class Asking(Protocol):
    """The child that asked."""

    def answer(self, seq: int, payload: bytes) -> None:
        """Send the answer to a question of a running call, unless the child has died."""


class Question:
    """Must be answered or refused, once; its job waits. If its child died, nothing is sent."""

    __slots__ = ("_child", "_number", "argument", "call", "kind")

    def __init__(
        self, child: Asking, call: Call, *, kind: int, number: int, argument: bytes
    ) -> None:
        """``kind`` is a question of sandboxq.model.dependencies.

        ``number`` what the child calls it.
        """
        self.call = call
        self.kind = kind
        self.argument = argument
        self._child = child
        self._number = number

    def answer(self, replies: Any) -> None:
        """Send the replies of Redis."""
        payload = encode_response(self._number, replies)
        if len(payload) > MESSAGE_LIMIT:
            self.refuse(f"the answer has {len(payload)} bytes, the limit is {MESSAGE_LIMIT}")
        else:
            self._child.answer(self.call.seq, payload)

    def refuse(self, reason: str) -> None:
        """Send why there is no answer; the job gets it as a QueueError."""
        self._child.answer(self.call.seq, encode_refusal(self._number, reason))


_NEW, _RESERVED, _SENT, _BEGUN, _ENDED = CallState


class Calls:
    """The calls of one pool."""

    def __init__(self) -> None:
        """Begin with none."""
        self.held = 0  # that have not ended
        self._reserve: deque[Call] = deque()
        self.waiting: Sequence[Call] = self._reserve  # what no child has, in its order
        self._number = 0
        self._seq = 0

    def put(self, calls: Iterable[Call], now: float) -> None:
        """Take new calls in, behind all others."""
        number = self._number
        try:
            for call in calls:
                if call.state is not _NEW:
                    _refuse(call, _RESERVED)
                number += 1
                call.number = number
                call.submitted_at = now
                call.state = _RESERVED
                self._reserve.append(call)
        finally:
            self.held += number - self._number
            self._number = number

    def send(self, child: Holder, count: int, now: float) -> Sequence[Call]:
        """Give the first ``count`` calls to a child, under numbers one after the other."""
        take, flying, seq, is_packed = self._reserve.popleft, child.flight, self._seq, count > 1
        sent = [take() for _ in range(count)]
        for call in sent:
            seq += 1
            call.seq = seq
            call.sent_at = now
            call.is_packed = is_packed
            call.state = _SENT
            flying[seq] = call
        self._seq = seq
        return sent

    def begin(self, call: Call, when: float) -> None:
        """Start the clock of a call that a child has."""
        if call.state is not _SENT:
            _refuse(call, _BEGUN)
        call.state = _BEGUN
        call.begun_at = when

    def answer(self, child: Holder, seq: int) -> Call | None:
        """End the call that a child has answered; None when it has no such call."""
        call = child.flight.pop(seq, None)
        if call is not None:  # what a child has has not ended
            call.state = _ENDED
            self.held -= 1
            if call.blob is not None:
                child.arena.free(call)
        return call

    def answer_all(
        self, child: Holder, answers: Sequence[Answer], shares: tuple[float, float, int]
    ) -> list[End]:
        """End the calls of ``answers`` that the child has, as ``answer`` does; return the outcomes.

        ``shares`` is what of the CPU of all falls to each µs of them (a job counts one more than it
        has), in its code and in the kernel, and their peak.
        """
        flying, ends = child.flight, []
        of_user, of_system, peak = shares
        done = user_before = system_before = 0
        for seq, microseconds, outcome in answers:
            call = flying.pop(seq, None)
            if call is not None:
                call.state = _ENDED
                if call.blob is not None:
                    child.arena.free(call)
                done += microseconds + 1
                user, system = int(done * of_user), int(done * of_system)
                usage = microseconds, user - user_before, system - system_before, peak
                user_before, system_before = user, system
                call.usage = usage
                ends.append((call, outcome, usage))
        self.held -= len(ends)
        return ends

    def take_back(self, child: Holder, calls: Iterable[Call]) -> None:
        """Put calls that a child does not run back into the reserve, each in its place."""
        back = []
        for call in calls:
            if child.flight.pop(call.seq, None) is not call:
                _refuse(call, _RESERVED)
            if call.blob is not None:
                child.arena.free(call)
            call.state = _RESERVED
            call.begun_at = 0.0
            back.append(call)
        if back:
            self._keep(sorted([*back, *self._reserve], key=_by_number))

    def drop(self, child: Holder) -> list[Call]:
        """End and return what a child has that is no more."""
        calls = list(child.flight.values())
        child.flight.clear()
        for call in calls:
            self._end(call)
        return calls

    def remove(self, call: Call) -> bool:
        """End a call that no child has; False when one has it, or it has ended."""
        if call.state is not _RESERVED:
            return False
        self._reserve.remove(call)
        self._end(call)
        return True

    def give_up(self, submitted_before: float) -> list[Call]:
        """Remove and return calls that no child has, submitted up to a time of the loop's clock.

        They are as new, and may be put again.
        """
        given = [call for call in self._reserve if call.submitted_at <= submitted_before]
        if given:
            self._keep([call for call in self._reserve if call.submitted_at > submitted_before])
        for call in given:
            call.state = _NEW
        self.held -= len(given)
        return given

    def _keep(self, calls: list[Call]) -> None:
        self._reserve.clear()
        self._reserve.extend(calls)

    def _end(self, call: Call) -> None:
        if call.state is _ENDED:
            _refuse(call, _ENDED)
        call.state = _ENDED
        self.held -= 1


def _refuse(call: Call, state: CallState) -> None:
    message = f"call {call.key!r} is {call.state.value} and cannot become {state.value}"
    raise AssertionError(message)


def _by_number(call: Call) -> int:
    return call.number
