"""Owns every call of a pool: where it is, and the only ways from one place to the next.

    put ─► reserve ──send──► a child's ──begin──► (its clock runs) ──answer──► ended
              ▲                 │                      │
              └────take_back────┴──────────────────────┘       drop, remove ─► ended
                                                               give_up ─► as new, somebody else's

A call is in exactly one place until it has ended, and ends once. Nobody else changes what a child
has (``Child.flying``), the reserve, or the state of a call.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sandboxq.pool.call import CallState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandboxq.pool.call import Call
    from sandboxq.pool.process import Child


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

    def send(self, child: Child, count: int, now: float) -> Sequence[Call]:
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

    def answer(self, child: Child, seq: int) -> Call | None:
        """End the call that a child has answered; None when it has no such call."""
        call = child.flight.pop(seq, None)
        if call is not None:  # what a child has has not ended
            call.state = _ENDED
            self.held -= 1
            if call.blob is not None:
                child.arena.free(call)
        return call

    def take_back(self, child: Child, calls: Iterable[Call]) -> None:
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

    def drop(self, child: Child) -> list[Call]:
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
        """Give back what no child has, submitted up to a time of the loop's clock.

        It is as new, and may be put again.
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
