"""Which child gets which call, and when: the reserve, the depth, and taking back.

How many calls are sent ahead depends on measured run times.
"""

from __future__ import annotations

import math
from itertools import islice
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from sandboxq.pool.calls import Call, Calls
    from sandboxq.pool.children.child import Child

# Seconds: of longer jobs a second call in the socket saves nothing (execution-layer.md).
SHORT = 0.0005
# What is sent ahead lasts a child about this part of the time for which work is kept ready: with
# 4 ms several wake-ups of the coordinator.
_SENT = 0.5
_DEEPEST = 128
# A round trip to Redis is hidden by one more call per slot; of longer jobs it is not worth a lock.
_WORTH_A_RESERVE = 0.05
# Jobs of microseconds: three batches are enough for the time that Redis takes to settle a batch and
# claim the next.
_LARGEST_RESERVE = 600
# Jobs of which so many are sent ahead are so short that a system call for each is what they cost:
# they share packets, each half of what is ahead at most. More than so many in one gives little, and
# a quarter of what is ahead flows best.
_WORTH_PACKETS = 32
_PACKET = 32
# Where fewer wait than all children could be given, each gets its share, but not less than this.
_SHARE = 8
# Calls that become the tasks of an event loop: as many as it has places for, up to so many.
TASKS_PACKET = 16
# The weight of the newest run time: the average follows a change after about ten jobs.
_WEIGHT = 0.2
# Run times that differ by this part get nearly the same.
_SAME = 0.1

# Seconds: a child that does not begin a call for so long is stuck: others get the call.
_STUCK_SECONDS = 0.1
# A child that has read some of a long call within that time goes on: another would begin anew.
READING_SECONDS = 1.0
_LOOK_SECONDS = 0.05
# Calls with more data than this gain nothing from sharing a packet; in bytes of the whole packet.
_LARGEST_PACKET = 16 * 1024
# What is claimed at once is for so many calls.
_CLAIM = 200
_payload, _blob = attrgetter("payload"), attrgetter("blob")


class Ahead(NamedTuple):
    """How much may be held beyond what the children run: so many calls, and work for so long.

    So much work is kept ready that Redis may take several milliseconds to settle a batch and claim
    the next while the children go on.
    """

    calls: int = 2500
    seconds: float = 0.004


USUAL = Ahead()


def average_with(average: float | None, seconds: float, *, count: int = 1) -> float:
    """Return the running average of run times with ``count`` more in it that took so long each."""
    if average is None:
        return seconds
    return seconds + (average - seconds) * (1 - _WEIGHT) ** count


def depth(average: float | None, ahead: Ahead = USUAL) -> int:
    """Return how many calls a child may hold for each that it runs: 1 unless jobs are short."""
    seconds = ahead.seconds * _SENT
    if average is None or average > SHORT or average > seconds:
        return 1
    if average * _DEEPEST <= seconds:
        return _DEEPEST
    return max(2, int(seconds / average))


def packet(average: float | None) -> int:
    """Return how many calls go into one packet: 1 unless jobs take microseconds."""
    ahead = depth(average)
    return min(_PACKET, ahead // 2) if ahead >= _WORTH_PACKETS else 1


def reserve(average: float | None, slots: int, ahead: Ahead = USUAL) -> int:
    """Return how many calls may wait in the coordinator, so that a free child finds one there."""
    if average is None or average > _WORTH_A_RESERVE or not ahead.seconds:
        return 0
    if average * _LARGEST_RESERVE <= slots * ahead.seconds:
        return max(slots, _LARGEST_RESERVE)
    return max(slots, int(slots * ahead.seconds / average))


def same_between(average: float | None, slots: int, ahead: Ahead = USUAL) -> tuple[float, float]:
    """Return between which run times all of these stay as good as the same."""
    shortest = min(ahead.seconds * _SENT / _DEEPEST, slots * ahead.seconds / _LARGEST_RESERVE)
    if average is None:
        return inf, 0.0
    if average <= shortest:
        return 0.0, shortest
    if average > _WORTH_A_RESERVE:
        return _WORTH_A_RESERVE, inf
    return average * (1 - _SAME), average * (1 + _SAME)


class Placement:
    """Holds the calls that no child has, and sends each to the child with the least to do."""

    def __init__(  # noqa: PLR0913 - whom it tells of what, each by one function
        self,
        loop: asyncio.AbstractEventLoop,
        calls: Calls,
        ready: list[Child],
        concurrency: int,
        *,
        on_spent: Callable[[], None],
        on_timed: Callable[[Call], None],
        on_packed: Callable[[], None],
        on_unsendable: Callable[[Call, Exception], None],
        may_send_ahead: bool = True,
        ahead: Ahead = USUAL,
    ) -> None:
        """Send to the children in ``ready``, a list that its owner changes.

        ``on_spent`` hears that a child was given the last call that it may have, ``on_timed`` that
        a call with a timeout was sent, ``on_packed`` that several went into one packet. Unless it
        ``may_send_ahead``, no child holds a call that it does not run.
        """
        self._may_send_ahead = may_send_ahead
        self._ahead = ahead
        self._on_spent = on_spent
        self._on_timed = on_timed
        self._on_packed = on_packed
        self._on_unsendable = on_unsendable
        self._loop = loop
        self._calls = calls
        self._waiting = calls.waiting
        self._ready = ready
        self._concurrency = concurrency
        self._reserve_limit = 0
        self._each = concurrency  # calls that one child may hold
        self._packet = 1  # calls that go to a child together
        self._enough = concurrency  # from so many on a child gets no more
        self._average: float | None = None
        self._adjusted = (math.inf, 0.0, 0)  # to which run times, and how many children
        self._timer: asyncio.TimerHandle | None = None

    def room(self) -> int:
        """Return how many more calls there is use for now.

        While every child is at a long job, nothing is kept ready for them: others may start it.
        """
        room, is_reserve_used = -len(self._waiting), False
        newest = self._loop.time() - _STUCK_SECONDS
        for child in self._ready:
            if child.is_spent:
                room -= len(child.flying)  # its successor must not run beside it
            if child.is_spent or child.is_stuck:
                continue
            is_slow = bool(child.flying) and child.progress_at < newest
            load = len(child.flying)
            free = (self._concurrency if is_slow else self._each) - load
            free = min(free, child.most_calls - child.answered - load)
            room += max(0, free)
            is_reserve_used = is_reserve_used or not is_slow or free > 0
        return max(0, room + self._reserve_limit if is_reserve_used else room)

    @property
    def is_rushed(self) -> bool:
        """Whether calls of microseconds wait for children: soon more will end."""
        average = self._average
        return average is not None and average <= SHORT and bool(self._waiting)

    @property
    def is_stocked(self) -> bool:
        """Whether so much is left of the reserve that nobody claims for it yet."""
        kept, limit = len(self._waiting), self._reserve_limit
        return 2 * kept > limit and kept > limit - _CLAIM

    def measure(self, seconds: float, *, count: int = 1) -> None:
        """Take note of the run time of ``count`` calls, and adjust to it when it is another."""
        self._average = average = average_with(self._average, seconds, count=count)
        least, most, children = self._adjusted
        if not least <= average <= most or children != len(self._ready):
            self.adjust()

    def adjust(self) -> None:
        """Calculate again how much to hold ahead."""
        children, most = len(self._ready), self._ahead.calls
        slots = self._concurrency * children
        self._adjusted = *same_between(self._average, slots, self._ahead), children
        wanted = depth(self._average, self._ahead) - 1 if self._may_send_ahead else 0
        sent = min(wanted, most // max(1, children))
        self._each = self._concurrency + sent
        self._packet, self._enough = self._packing()
        kept = reserve(self._average, slots, self._ahead)
        self._reserve_limit = min(kept, most - sent * children)

    def _packing(self) -> tuple[int, int]:
        """Return how many calls share a packet, and the load from which a child gets no more.

        A child that still has plenty to do is left alone until there is room for a whole packet; a
        place in an event loop is not left empty for that.
        """
        if not self._ready or not self._ready[0].can_pack:
            return 1, self._each
        if self._ready[0].is_async:
            return TASKS_PACKET, self._each
        calls = min(packet(self._average), self._each)
        return calls, self._each - calls + 1

    def put(self, call: Call) -> None:
        """Send a new call, or keep it until a child has room."""
        is_first = not self._waiting
        self._calls.put([call], self._loop.time())
        child = self._least_loaded(self._each) if is_first else None
        if child is not None:
            self._send(child)

    def put_all(self, calls: Iterable[Call]) -> None:
        """Send new calls, several in a packet where that helps, or keep them."""
        self._calls.put(calls, self._loop.time())
        self.pump()

    def pump(self) -> None:
        """Send from the reserve what children have room for."""
        most = self._packet
        if most > 1:
            most = min(most, max(_SHARE, -(-len(self._waiting) // max(1, len(self._ready)))))
        while self._waiting:
            child = self._least_loaded(self._enough)
            if child is None:
                return
            self._send_next(child, most)

    def feed(self, child: Child) -> None:
        """Send from the reserve what one child has room for: others have no more than before."""
        waiting, flying = self._waiting, child.flying
        if waiting and child in self._ready:
            most = min(self._enough, child.most_calls - child.answered)
            while waiting and len(flying) < most and not child.is_stuck:
                self._send_next(child, self._packet)

    def unsend(self, child: Child) -> None:
        """Move what a child has not begun back into the reserve, in its place."""
        calls = child.taken_back()
        if child.is_stuck:
            child.ping()
        self._calls.take_back(child, calls)

    def take(self, submitted_before: float) -> list[Call]:
        """Remove and return what was never started, submitted up to a time of the loop's clock."""
        for child in list(self._ready):
            old = [c for c in child.flying.values() if c.submitted_at <= submitted_before]
            if old and not any(child.is_reading(call, submitted_before) for call in old):
                self.unsend(child)
        return self._calls.give_up(submitted_before)

    def remove(self, call: Call) -> bool:
        """Remove a call from the reserve; False when it is not there."""
        return self._calls.remove(call)

    def empty(self) -> list[Call]:
        """Remove and return the reserve."""
        return self._calls.give_up(math.inf)

    def stop(self) -> None:
        """Stop looking for stuck children; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()

    def _least_loaded(self, least: int) -> Child | None:
        """Return the child with the least to do, if that is less than ``least`` calls."""
        best = None
        for child in self._ready:
            load = len(child.flying)
            if load < least and not child.is_stuck and load + child.answered < child.most_calls:
                best, least = child, load
        return best

    def _send_next(self, child: Child, most: int) -> None:
        may_pack = most > 1 and child.can_pack and len(self._waiting) > 1
        count = self._next_for(child, most) if may_pack else 1
        if count > 1:
            self._send_all(child, count)
        else:
            self._send(child)

    def _send(self, child: Child) -> None:
        now = self._loop.time()
        if not child.flying:
            child.progress_at = now
        (call,) = self._calls.send(child, 1, now)
        try:
            child.send_call(call)
        except Exception as error:  # noqa: BLE001 - of this call alone: the others go on
            self._calls.answer(child, call.seq)
            self._on_unsendable(call, error)
            return
        if call.timeout is not None:
            self._on_timed(call)
        self._see_to(child)

    def _next_for(self, child: Child, most: int) -> int:
        """Return how many of the reserve, at most so many, go to a child in one packet.

        An event loop begins all that it has read: what it has no place for goes by itself, and is
        not read before.
        """
        load = len(child.flying)
        room = min(most, child.most_calls - child.answered - load)
        if child.is_async:
            room = min(room, self._concurrency - load)
        calls = list(islice(self._waiting, max(0, room)))
        if sum(map(len, map(_payload, calls))) <= _LARGEST_PACKET and not any(map(_blob, calls)):
            return len(calls)
        return _count_fitting(calls)

    def _send_all(self, child: Child, count: int) -> None:
        now = self._loop.time()
        if not child.flying:
            child.progress_at = now
        calls = self._calls.send(child, count, now)
        try:
            child.send_calls(calls)
        except Exception:  # noqa: BLE001 - of one of them: alone, each meets its own
            child.packets.revoke(count)
            self._calls.take_back(child, calls)
            for _ in calls:
                self._send(child)
            return
        for call in calls:
            if call.timeout is not None:
                self._on_timed(call)
        self._on_packed()
        self._see_to(child)

    def _see_to(self, child: Child) -> None:
        """See to a successor of a child that has its last call, and that none gets stuck."""
        if len(child.flying) + child.answered >= child.most_calls:
            self._on_spent()
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_SECONDS, self._look_for_stuck)

    def _look_for_stuck(self) -> None:
        """Take back the calls that a child does not begin: it runs a long job, or does nothing."""
        self._timer = None
        now = self._loop.time()
        for child in list(self._ready):
            call = child.first_unbegun()
            if call is None:
                continue
            seconds = now - max(call.sent_at, child.progress_at)
            if seconds > _STUCK_SECONDS and not child.is_reading(call, now - READING_SECONDS):
                child.is_stuck = True
                self.unsend(child)
            elif self._timer is None:
                self._timer = self._loop.call_later(_LOOK_SECONDS, self._look_for_stuck)
        self.pump()


def _count_fitting(calls: list[Call]) -> int:
    """Return how many of the first calls fit into a packet; those with arrays never do."""
    count = size = 0
    for call in calls:
        size += len(call.payload)
        if call.blob is not None or size > _LARGEST_PACKET:
            break
        count += 1
    return count
