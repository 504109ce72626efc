"""Handles messages of children: answers for the pool, reports and questions for its listener."""

from __future__ import annotations

import asyncio
import logging
import struct
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

from sandboxq.child.frames import (
    ANSWER,
    ANSWER_SIZE,
    CANCEL_TOLD,
    DATA,
    DONE,
    ENDS_CHILD,
    FAILED,
    HAS_BLOB,
    HAS_OUTPUT,
    IS_ASYNC,
    LEFT,
    LINE,
    LOG,
    MICROSECONDS_LIMIT,
    MOVE,
    OUT_OF_MEMORY,
    PONG,
    PROFILE,
    PROGRESS,
    READY,
    REPLY,
    REPLY_SIZE,
    REQUEST,
    RETURNED,
    STACKS,
    START_FAILED,
    STREAMS,
    decode_failure,
    decode_left,
    decode_request,
    encode_refusal,
)
from sandboxq.errors import ResultTooLarge
from sandboxq.model.outcome import Completed, HandedBack
from sandboxq.pool.blame import Leftovers
from sandboxq.pool.boundary import MOST_USAGE
from sandboxq.pool.breach import COMMON, Breach, check_json
from sandboxq.pool.calls import Question
from sandboxq.pool.outcomes import (
    completed_from_frame,
    failure_from_ending,
    failure_from_frame,
    move_from_frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.calls import Answer, Call, End, PoolListener
    from sandboxq.pool.children.child import Child
    from sandboxq.pool.core import PoolCore
    from sandboxq.pool.transport.channel import Spent

# A child that reports faster than Redis takes it waits so long before it is read again.
_PAUSE = 0.05
_MOST_DRAINED = 3
_log = logging.getLogger("sandboxq.pool")
_CUT = struct.error("an answer ends behind its packet")
_unpack = REPLY.unpack_from
_unpack_answer = ANSWER.unpack_from
_usage = itemgetter(2)  # of an End
# No µs of a job is more of CPU.
_MOST_SHARE = 1e6
# What most jobs return: it is JSON, and made once.
_KNOWN = {value: Completed(value) for value in COMMON}
_REPORTS = {PROGRESS: "progress", LOG: "log", DATA: "data"}


def _shares(child: Child, packet: bytes) -> tuple[float, float, int]:
    """Return what of the CPU of a packet's jobs falls to each µs of them, and the peak of all.

    µs in their code and in the kernel; each job counts a µs more than it has. A packet that was
    held back does not say yet what they have used: they are taken to have computed all the time.
    """
    _, _, _, total, _, user, system, peak = _unpack(packet)
    peak = min(peak, MOST_USAGE)
    if not total:
        return 1.0, 0.0, peak
    of_user, of_system = max(0, user - child.user_us), max(0, system - child.system_us)
    return min(of_user / total, _MOST_SHARE), min(of_system / total, _MOST_SHARE), peak


def _dismiss(pool: PoolCore, child: Child, why: str) -> None:
    """Replace a child; asked when there is a supervisor."""
    pool.supervisor.dismiss(child, why)


class Inbound:
    """Hears the children of one pool."""

    def __init__(self, pool: PoolCore, listener: PoolListener) -> None:
        """Act on ``pool``; pass reports and questions on to ``listener``."""
        self._pool = pool
        self._listener = listener
        # As `Pool.tell` does of what was returned: see PoolListener.
        self._on_values = getattr(listener, "on_values", self._tell_each)
        self._loop = asyncio.get_running_loop()
        self._has_reported = False
        self._drained = 0  # how often calls had no tokens that nobody had taken back
        self._leftovers = Leftovers(partial(_dismiss, pool))

    def on_readable(self, child: Child) -> None:
        """Read a child's messages, then give it new calls."""
        self._hear(child, child.channel.receive)

    def on_held(self, child: Child, packet: bytes) -> None:
        """Take answers that a child holds back while the next job takes long."""
        if not (child.is_paused or child.is_ignored):
            child.read()  # what it has sent goes first
            self._hear(child, partial(self.on_answers, child, packet))

    def _hear(self, child: Child, receive: Callable[[], object]) -> None:
        answered = child.answered
        try:
            receive()
        except Breach as breach:
            self._end(child, breach)
        except struct.error:
            self._end(child, Breach("sent data that is no message"))
        except Exception as error:  # noqa: BLE001 - whatever it was that a child sent, others go on
            _log.exception("child %d sent what could not be handled", child.pid)
            self._end(child, Breach(f"sent what could not be handled ({error!r})"))
        if self._has_reported:
            self._has_reported = False
            if not self._listener.wants_reports():
                child.is_paused = True
                self._loop.remove_reader(child.channel.fileno())
                self._loop.call_later(_PAUSE, self._read_on, child)
        if child.answered == answered:
            return
        child.lines.forget()
        child.progress_at = self._loop.time()
        self._pool.supervisor.retire_if_idle(child)
        self._pool.recycler.answered(child)
        self._go_on(child)

    def _end(self, child: Child, breach: Breach) -> None:
        """End a child that has broken the protocol, and ignore what it sends."""
        if child.channel.fileno() >= 0:
            self._loop.remove_reader(child.channel.fileno())
        self._pool.end_breach(child, breach)

    def on_last_words(self, child: Child) -> None:
        """Take what a child that is dead had sent and written; nothing of it can do harm."""
        held = partial(self.on_answers, child, child.packets.take_all())
        for receive in () if child.is_ignored else (child.channel.receive_last, held):
            try:
                receive()
            except (Breach, struct.error):
                continue  # no answer that can be used
            except Exception:  # noqa: BLE001 - as above: what it held is still to be settled
                _log.exception("child %d had sent what could not be handled", child.pid)
        child.lines.drain()

    def on_shut(self, child: Child) -> None:
        """End a child that has shut down its socket, and may live on."""
        if not child.has_ended and child.channel.fileno() >= 0:
            self._end(child, Breach("has shut down its socket"))

    def _read_on(self, child: Child) -> None:
        """Read a child again unless reports still wait for Redis; until then it blocks."""
        if child.channel.fileno() < 0 or child.kill_reason is not None:
            return
        if self._listener.wants_reports():
            child.is_paused = False
            self._loop.add_reader(child.channel.fileno(), self.on_readable, child)
        else:
            self._loop.call_later(_PAUSE, self._read_on, child)

    def _go_on(self, child: Child) -> None:
        """Give new calls to a child that reads on."""
        child.is_stuck = child.packets.are_revoked
        self._pool.placement.feed(child)
        self._listener.on_room()

    def on_message(
        self,
        child: Child,
        kind: int,
        flags: int,
        detail: int,
        spent: Spent,
        seq: int,
        payload: bytes,
    ) -> None:
        """Take a message of a child."""
        if kind == DONE:
            outcome = self._with_blob(child, payload) if flags & HAS_BLOB else Completed(payload)
            if outcome is None or len(outcome.value) > self._pool.max_result:
                self._refuse(child, seq)
            else:
                self._on_answer(child, outcome, flags, spent, seq)
        elif kind == FAILED:
            failure = failure_from_frame(
                payload, flags, pid=child.pid, memory=child.memory, peak=spent[3]
            )
            self._on_answer(child, failure, flags, spent, seq)
        elif kind == MOVE:
            self._on_answer(child, move_from_frame(payload, detail), flags, spent, seq)
        elif kind in _REPORTS:
            call = child.flying.get(seq)
            self._has_reported = True
            if kind == LOG:
                child.lines.drain(seq)  # what it has printed before comes before
            if call is not None:
                self._listener.on_report(call, _REPORTS[kind], payload)
        elif kind == LINE:
            stream = STREAMS[min(detail, len(STREAMS) - 1)]
            child.lines.take(child.flying.get(seq), stream, [payload.decode("utf-8", "replace")])
        else:
            if kind == READY:
                child.user_us, child.system_us = spent[1:3]  # of its start and setup()
            self._on_rare(child, kind, detail, seq, payload)

    def _with_blob(self, child: Child, payload: bytes) -> Completed | None:
        return completed_from_frame(payload, child.arena, most=self._pool.max_result)

    def _refuse(self, child: Child, seq: int) -> None:
        """End a child that sent what our code does not send."""
        limit = self._pool.max_result
        error = ResultTooLarge(f"child {child.pid} sent a value beyond the limit of {limit} bytes")
        self._pool.kill_child(child, error, child.flying.get(seq))

    def _on_rare(self, child: Child, kind: int, detail: int, seq: int, payload: bytes) -> None:
        if kind == REQUEST:
            self._on_request(child, detail, seq, payload)
        elif kind == READY:
            child.is_async = detail == IS_ASYNC
            may_pack = self._drained < _MOST_DRAINED
            child.can_pack = may_pack and child.packs_calls and not child.is_strict
            self._pool.supervisor.ready_now(child)
        elif kind == PONG:
            self._go_on(child)
        elif kind == RETURNED:
            self._on_returned(child, range(seq, seq + detail))
        elif kind == LEFT:
            self._leftovers.hear(child, child.flying.get(seq), detail, decode_left(payload))
        elif kind == START_FAILED:
            reason, stack, _ = decode_failure(payload)
            child.start_failure = f"{reason}\n{stack}".rstrip()
        elif kind == PROFILE:
            self._pool.profiles.take(child, seq, payload)
        elif kind == STACKS and child.on_stacks is not None:
            child.on_stacks(seq, payload)

    def _on_returned(self, child: Child, numbers: range) -> None:
        """Hear that a child has come to calls of a packet for which it has no tokens.

        They were taken back from it; or a job has read the tokens: then these go back now.
        """
        calls = [call for seq, call in child.flying.items() if seq in numbers]
        if any(map(child.has_begun, calls)) or not (calls or child.packets.are_revoked):
            message = "returned calls that were not asked back"
            raise Breach(message)
        if calls:
            self._on_drained(child, calls)
        child.packets.are_revoked = False
        self._go_on(child)

    def _on_drained(self, child: Child, calls: list[Call]) -> None:
        """Take back calls whose tokens are gone, and replace the child: a job reads what is ours.

        Until then, and where it happens again and again, they share no packets: none needs a token.
        """
        self._pool.calls.take_back(child, calls)
        self._pool.supervisor.replace(child, "for a job in it that reads descriptors of others")
        self._drained += 1
        for each in self._pool.supervisor.children if self._drained >= _MOST_DRAINED else (child,):
            each.can_pack = False
        self._pool.placement.pump()

    def _on_request(self, child: Child, kind: int, seq: int, payload: bytes) -> None:
        number, argument = decode_request(payload)
        call = child.flying.get(seq)
        if call is None:
            child.answer(seq, encode_refusal(number, "the job that asks is over"))
        else:
            question = Question(child, call, kind=kind, number=number, argument=argument)
            self._listener.on_question(question)

    def on_lines(self, child: Child, call: Call | None, stream: str, lines: list[str]) -> None:
        """Pass on captured lines."""
        self._listener.on_lines(call, child.pid, stream, lines)

    def on_answers(self, child: Child, packet: bytes) -> None:
        """Take the answers of jobs of microseconds: values, and nothing else.

        Raises: struct.error when it is no such packet, Breach when a value is no JSON.
        """
        most, known, answers = self._pool.max_result, _KNOWN.get, []
        start, size, seq = REPLY_SIZE, len(packet), 0
        try:
            while start < size:
                length, microseconds, seq = _unpack_answer(packet, start)
                start += ANSWER_SIZE
                end = start + length
                if end > size:
                    raise _CUT
                if length > most:
                    break
                value = packet[start:end]
                outcome = known(value)
                if outcome is None:
                    check_json(value)
                    outcome = Completed(value)
                answers.append((seq, microseconds, outcome))
                start = end
        finally:
            if answers:  # also those before one that is none
                self._end_all(child, answers, _shares(child, packet))
        if start < size:
            self._refuse(child, seq)

    def _end_all(
        self, child: Child, answers: list[Answer], shares: tuple[float, float, int]
    ) -> None:
        ends = self._pool.calls.answer_all(child, answers, shares)
        if not ends:  # they were taken from where they were held back
            return
        child.answered += len(ends)
        times, users, systems, _ = zip(*map(_usage, ends), strict=True)
        child.user_us += sum(users)
        child.system_us += sum(systems)
        self._on_values(ends)
        on_end = self._pool.on_end
        if on_end is not None:
            for call, outcome, usage in ends:
                on_end(child, call, outcome, usage[0] / 1_000_000)
        self._pool.placement.measure(sum(times) / len(ends) / 1_000_000, count=len(ends))
        self._note_success()

    def _tell_each(self, ends: Sequence[End]) -> None:
        for call, outcome, usage in ends:
            self._listener.on_outcome(call, outcome, usage[0] / 1_000_000)

    def _note_success(self) -> None:
        pool = self._pool
        if pool.supervisor.delay.streak:
            pool.supervisor.delay.succeed()
        if pool.circuit.is_troubled:
            pool.circuit.succeed()

    def _on_answer(
        self, child: Child, outcome: Outcome, flags: int, spent: Spent, seq: int
    ) -> None:
        if flags & HAS_OUTPUT or child.lines.is_behind():
            child.lines.drain(seq)  # while it is known whose it is
        call = self._pool.calls.answer(child, seq)
        if call is None:
            return
        if flags & CANCEL_TOLD and call.ending is not None:
            outcome = failure_from_ending(call.ending, outcome)
        child.answered += 1
        microseconds, user, system, peak = spent
        call.usage = microseconds, user - child.user_us, system - child.system_us, peak
        child.user_us, child.system_us = user, system
        seconds = microseconds / 1_000_000
        if microseconds == MICROSECONDS_LIMIT:
            seconds = self._loop.time() - call.sent_at
        pool = self._pool
        pool.placement.measure(seconds)
        delay = pool.supervisor.delay
        if delay.streak and isinstance(outcome, Completed):
            delay.succeed()
        if pool.circuit.is_troubled and not flags & OUT_OF_MEMORY:
            pool.circuit.succeed()
        if flags & (OUT_OF_MEMORY | ENDS_CHILD):
            # It leaves by itself, and other jobs of it go back: this one alone is to blame.
            child.victim = call
            pool.supervisor.leave(child)
            if child.left and flags & OUT_OF_MEMORY:  # by jobs before it: it runs again, elsewhere
                outcome = HandedBack(was_started=True, is_neighbour=True)
        pool.tell(call, outcome, seconds)
        if pool.on_end is not None:
            pool.on_end(child, call, outcome, seconds)
