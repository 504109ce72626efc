"""One child as the coordinator sees it."""

from __future__ import annotations

import math
import os
import signal
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from sandboxq.child.activity_page import SAMPLE, ActivityPage, open_mark
from sandboxq.child.cancels import ask, ask_whether_it_turns, open_cancels
from sandboxq.child.frames import (
    CALL,
    CALLS,
    PING,
    RESPONSE,
    RETIRE,
    STACKS_WANTED,
    BlobPlace,
    encode_blob,
    encode_calls,
)
from sandboxq.child.interrupts import SOFT_SIGNAL
from sandboxq.child.sampler import PROFILE_SIGNAL
from sandboxq.errors import JobCancelled
from sandboxq.pool.boundary import Boundary
from sandboxq.pool.options import TRANSITIONS, ChildState
from sandboxq.pool.transport.arena import Arena, StackPage
from sandboxq.pool.transport.channel import PACKETS_A_TURN, Channel, Packets
from sandboxq.pool.transport.output import Lines

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from sandboxq.errors import ChildError
    from sandboxq.pool.calls import Call
    from sandboxq.pool.children.zygote_client import ZygoteClient
    from sandboxq.pool.options import ChildOwner, PoolOptions
    from sandboxq.pool.outcomes import Death
    from sandboxq.pool.profile_table import Sampling


class Child:
    """Socket, pipes, pidfd, and the calls that were sent and not answered, in that order."""

    __slots__ = (
        "_answers",
        "_asked",
        "_asked_at",
        "_cancels_fd",
        "_far_cancels_fd",
        "_loop",
        "_mark",
        "_mark_fd",
        "_owner",
        "answered",
        "arena",
        "boundary",
        "can_pack",
        "channel",
        "concurrency",
        "death",
        "due_at",
        "due_calls",
        "files_in_memory",
        "flight",
        "flying",
        "has_ended",
        "is_async",
        "is_early",
        "is_ignored",
        "is_paused",
        "is_strict",
        "is_stuck",
        "is_unresponsive",
        "kill_reason",
        "left",
        "lines",
        "memory",
        "most_calls",
        "number",
        "on_stacks",
        "packets",
        "page",
        "pid",
        "pidfd",
        "progress_at",
        "retire_reason",
        "sampling",
        "source",
        "start_failure",
        "state",
        "system_us",
        "timer",
        "user_us",
        "victim",
    )

    fate = "was killed"  # what happens to one that does not end when it is told to
    packs_calls = True  # whether calls may share packets

    def __init__(
        self,
        number: int,
        loop: asyncio.AbstractEventLoop,
        *,
        owner: ChildOwner[Child],
        terms: PoolOptions,
        memory: int | None,
    ) -> None:
        """Open socket and pipes; the process comes later. ``memory`` is the grant, in bytes."""
        self.number = number
        self.concurrency = terms.concurrency
        self.is_strict = terms.is_strict
        self.memory = memory
        self.state = ChildState.STARTING
        self.source: ZygoteClient | None = None  # that has forked it; threads have none
        self.pid = 0
        self.pidfd = -1
        self.flight: dict[int, Call] = {}  # changed by pool/calls.py alone
        self.flying: Mapping[int, Call] = self.flight
        self.kill_reason: ChildError | None = None  # why it is being killed, by us
        self.victim: Call | None = None  # the one call that doom is about, if it is about one
        self.death: Death | None = None
        self.has_ended = False  # its pidfd said so; how, the zygote will say
        self.is_early = False
        self.is_async = False
        self.can_pack = False  # told with READY
        self.is_ignored = False  # it broke the protocol: nothing that it says counts
        self.is_unresponsive = False  # it lives, and reads nothing
        self.is_paused = False  # not read while its reports wait for Redis
        self.on_stacks: Callable[[int, bytes], None] | None = None  # of who waits for them
        self.sampling: Sampling | None = None  # the job that is sampled in it
        self.start_failure = self.retire_reason = ""
        self.is_stuck = False
        self.progress_at = 0.0
        self.answered = self.left = 0  # jobs, and bytes of memory that they have left
        self.user_us = self.system_us = 0  # CPU until its last answer
        self.most_calls = self.due_calls = sys.maxsize
        self.due_at = math.inf  # when it is to be replaced: recycler.py
        self.files_in_memory = 0  # bytes of its temporary files that are memory
        self.timer: asyncio.TimerHandle | None = None
        self._asked, self._asked_at = 0, 0.0  # whether its event loop turns
        self._loop = loop
        self._owner = owner
        self._open(terms)
        loop.add_reader(self.channel.fileno(), owner.on_readable, self)

    def _open(self, terms: PoolOptions) -> None:
        """Open everything that it shares with its process. Raises: OSError, with nothing open."""
        loop, owner = self._loop, self._owner
        is_single = self.is_strict and self.concurrency == 1
        with ExitStack() as opened:  # closes what there is when descriptors run out
            self.boundary = Boundary(self, owner, terms)
            self.channel = Channel(
                loop,
                self.boundary.take,
                self.boundary.take_answers,
                limit=self.boundary.limit,
                on_shut=partial(owner.on_shut, self),
                packets_a_turn=1 if is_single else PACKETS_A_TURN,
            )
            opened.callback(self.channel.close)
            self._answers = Channel(loop, _hear_nothing)
            opened.callback(self._answers.close)
            self.arena = Arena(self.memory, terms.max_result)
            opened.callback(self.arena.close)
            self.page = StackPage()
            opened.callback(self.page.close)
            self._mark_fd = open_mark()
            opened.callback(os.close, self._mark_fd)
            self._mark = ActivityPage(self._mark_fd)
            opened.callback(self._mark.close)
            self._far_cancels_fd, self._cancels_fd = open_cancels()
            opened.callback(os.close, self._far_cancels_fd)
            opened.callback(os.close, self._cancels_fd)
            self.packets = Packets(self._mark, are_allowed=not terms.is_strict)
            opened.callback(self.packets.close)
            self.lines = Lines(self, owner, loop, terms)
            opened.pop_all()

    def far_filenos(self) -> list[int]:
        """Return what the process needs.

        Socket, stdout, stderr, mark, pipe of cancelled calls, socket of answers, arena,
        page of stacks; where calls may share packets, their tokens.
        """
        pipes = self.lines.far_filenos()
        marks = [self._mark_fd, self._far_cancels_fd]
        last = [self._answers.far_fileno(), self.arena.fd, self.page.fd]
        tokens = [self.packets.tokens] if self.packets.tokens >= 0 else []
        return [self.channel.far_fileno(), *pipes, *marks, *last, *tokens]

    def close_far(self) -> None:
        """Close our copies of the pipes' far ends, so that they end with the process."""
        self.lines.close_far()
        self._answers.close_far()
        if self._mark_fd >= 0:
            os.close(self._mark_fd)
            os.close(self._far_cancels_fd)
            self._mark_fd = self._far_cancels_fd = -1

    def move(self, state: ChildState) -> None:
        """Enter a state."""
        assert state in TRANSITIONS[self.state], f"{self.state} to {state}"  # noqa: S101 - our own slip
        self.state = state

    def retire(self) -> None:
        """Ask the child to finish what it has read, tear down and leave."""
        self.move(ChildState.LEAVING)
        self.channel.send(RETIRE, 0)

    @property
    def is_spent(self) -> bool:
        """Whether it has been given as many calls as it may have."""
        return self.answered + len(self.flying) >= self.most_calls

    def stop_timer(self) -> None:
        """Forget the timer; twice is harmless."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def send_call(self, call: Call) -> None:
        """Give the child a call, with its arrays and bytes in the arena."""
        payload = call.payload
        if call.blob is not None:
            place = BlobPlace(self.arena.put(call), len(call.blob.view), call.blob.table)
            payload += encode_blob(place)
        self.channel.send(CALL, call.seq, payload)

    def send_calls(self, calls: Sequence[Call]) -> None:
        """Give the child calls, numbered one after the other, in one packet."""
        first = calls[0].seq
        self.packets.grant(len(calls), first + len(calls) - 1)
        self.channel.send(CALLS, first, encode_calls([call.payload for call in calls]))

    def taken_back(self) -> list[Call]:
        """Return the calls that it does not begin any more: not read, or without a token."""
        packed = sum(call.is_packed for call in self.flying.values())
        numbers, pings = self.channel.take_unread()
        self.boundary.forget_pings(pings)
        calls = [self.flying[seq] for seq in sorted(numbers) if seq in self.flying]
        left = self.packets.revoke(packed) - sum(call.is_packed for call in calls)
        latest = self._mark.latest()
        self.packets.last = min(self.packets.last, latest)
        if left > 0:
            read = [call for seq, call in self.flying.items() if call.is_packed and seq > latest]
            calls += [call for call in read if call.seq not in numbers][-left:]
            self.packets.are_revoked = self.is_stuck = True
        return calls

    def cancel(self, call: Call) -> None:
        """Tell the code of a running call that it is to end."""
        ask(self._cancels_fd, call.seq, is_timeout=not isinstance(call.ending, JobCancelled))

    def ask_whether_it_turns(self) -> None:
        """Send the event loop a PING, unless it still owes an answer."""
        if self._mark.echoed() >= self._asked:
            self._asked += 1
            self._asked_at = self._loop.time()
            ask_whether_it_turns(self._cancels_fd, self._asked)

    def blocked_for(self) -> float:
        """Return for how many seconds the event loop has owed an answer; 0 when it owes none."""
        if self._mark.echoed() >= self._asked:
            return 0.0
        return self._loop.time() - self._asked_at

    def call_on_loop(self) -> Call | None:
        """Return the call whose code has the event loop, or had it at the end."""
        return self.flying.get(self._mark.running())

    def begun_at(self, call: Call) -> float | None:
        """Return when a call began in an event loop, in seconds of its own loop's clock."""
        return self._mark.begun_at(call.seq)

    def interrupt(self) -> None:
        """Have the child look whether the call that it runs is to end; harmless when repeated."""
        self.signal(SOFT_SIGNAL)

    def answer(self, seq: int, payload: bytes) -> None:
        """Send the answer to a question of a running call, unless the child has died."""
        self.boundary.answer_question()
        if self._answers.fileno() >= 0:
            self._answers.send(RESPONSE, seq, payload)

    def unread_answers(self) -> int:
        """Return how many answers to its questions wait here, as it does not read."""
        return self._answers.waiting()

    def sample(self, word: int) -> None:
        """Have a call sampled (child/sampler.py); 0: none any more."""
        if self.pidfd >= 0:
            self._mark.words[SAMPLE] = word
            self.signal(PROFILE_SIGNAL)

    def ask_for_stacks(self) -> None:
        """Have an event loop tell where its jobs are, to ``on_stacks``."""
        self.boundary.ask_for_stacks()
        self._answers.send(STACKS_WANTED, 0)

    def ping(self) -> None:
        """Ask for a PONG, unless one is owed already."""
        if not self.boundary.owes_pong:
            self.boundary.ping()
            self.channel.send(PING, 0)

    def kill(self) -> None:
        """End the process now; its group and orphans are ended by the zygote."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.pidfd >= 0:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                return

    def own_stack(self) -> str:
        """Return its stack, where this process can read it by itself; else nothing."""
        return ""

    def running_call(self) -> Call | None:
        """Return the call that runs, if there is just one that can."""
        if self.flying and (self.concurrency == 1 or len(self.flying) == 1):
            return next(iter(self.flying.values()))
        return None

    def running_calls(self) -> list[Call]:
        """Return the calls whose code was begun, as far as the process tells."""
        latest = self._mark.latest()
        begun = [call for seq, call in self.flying.items() if seq <= latest]
        return begun if self.is_async else begun[:1]

    def first_unbegun(self) -> Call | None:
        """Return the call that has waited longest in the child, unless all are begun."""
        latest = self._mark.latest()
        return next((call for seq, call in self.flying.items() if seq > latest), None)

    def is_reading(self, call: Call, since: float) -> bool:
        """Tell whether it has read some of a long call since then; it is not to be moved away."""
        return call.seq > self._mark.latest() and self.channel.read_at(call.seq) > since

    def owes(self) -> object:
        """Return what it owes, a PONG or the begin of a call, to tell one from the next; or None.

        Some of the calls are begun, or none: an event loop begins in the order of their numbers.
        """
        first = next(iter(self.flying), 0)
        if first > self._mark.latest():
            return first, self.channel.backlog()
        return 0 if self.boundary.owes_pong and not first else None

    def latest(self) -> int:
        """Return the number of the call that was begun last, as far as the process tells."""
        return self._mark.latest()

    def has_begun(self, call: Call) -> bool:
        """Tell whether the user's code was reached by a call that the process has read.

        Where jobs may be hostile, the activity page counts only against the child: when it is ended
        because it seems to begin nothing.
        """
        return (self.is_strict and not self.is_unresponsive) or call.seq <= self._mark.latest()

    def close(self) -> None:
        """Give back every descriptor."""
        self.stop_timer()
        if self.channel.fileno() >= 0:
            self._loop.remove_reader(self.channel.fileno())
        self.channel.close()
        self._answers.close()
        self.close_far()
        self._mark.close()
        self.arena.close()
        self.page.close()
        if self._cancels_fd >= 0:
            os.close(self._cancels_fd)
            self._cancels_fd = -1
        self.packets.close()
        self.lines.close()
        if self.pidfd >= 0:
            self._loop.remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1

    def read(self) -> None:
        """Take the messages that are there, unless it is not read now or any more."""
        if not (self.is_paused or self.is_ignored) and self.channel.fileno() >= 0:
            self._owner.on_readable(self)


def _hear_nothing(*_: object) -> None:
    """Take what a child says where it should only listen."""
