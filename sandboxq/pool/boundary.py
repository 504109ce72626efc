"""Checks every message of a child before it is used.

    Channel ─► Boundary ─► Inbound            a breach ─► the child is ended, its job fails

For each kind of message: whether the child owes it or may send it now, its length, its text, and
how much of it one job may send. What our own code sends always passes, whatever a job does; what
does not pass was not sent by our code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from sandboxq.child.frames import (
    BLOB_HEAD_SIZE,
    CHUNK_SIZE,
    DATA,
    DONE,
    FAILED,
    HAS_BLOB,
    LEFT,
    LINE,
    LOG,
    MESSAGE_LIMIT,
    MOVE,
    PONG,
    PROFILE,
    PROGRESS,
    READY,
    REQUEST,
    RETURNED,
    STACKS,
    START_FAILED,
    TO_RATE_LIMIT,
    decode_move,
    table_size,
)
from sandboxq.child.values import MOST_BYTES
from sandboxq.pool.breach import COMMON, Breach, Flooded, NotJson, check_json
from sandboxq.pool.profile_table import MOST_PACKED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandboxq.pool.calls import Call
    from sandboxq.pool.options import ChildOwner, PoolOptions
    from sandboxq.pool.transport.channel import Spent

# What threads of ended jobs may say, until the child's next answer.
_MOST_STRAYS = 20_000
# A line and a stack are cut by the child; in bytes, with room for escapes.
_LONGEST_LINE = 512 * 1024
_LONGEST_STACK = 1 << 20
_LONGEST_REQUEST = MOST_BYTES + 64 * 1024
# What a character takes at most, escaped: \Uxxxxxxxx.
_BYTES_A_CHARACTER = 10
# The rest of a failure: the name of its class, and what our own code adds to a reason.
_FAILURE_REST = 16 * 1024
# Of the arrays and bytes in a value: some hundred thousand of them.
_LONGEST_TABLE = 16 << 20
# More than any process uses; not every client of Redis reads larger numbers.
MOST_USAGE = 1 << 50
_MOST_LEFT = 100
_ANSWERS_TO_ONE = (DONE, FAILED, MOVE)
_REPORTS = (PROGRESS, LOG, DATA)


class Speaker(Protocol):
    """A child, as far as Boundary needs it."""

    flying: Mapping[int, Call]
    is_async: bool
    answered: int

    def unread_answers(self) -> int:
        """Return how many answers to its questions it has not read."""


S = TypeVar("S", bound=Speaker)


class Boundary(Generic[S]):
    """Checks the messages of one child, and passes them on."""

    __slots__ = (
        "_asked",
        "_can_pack",
        "_child",
        "_has_begun",
        "_left",
        "_limits",
        "_most_asked",
        "_owner",
        "_pings",
        "_profiles",
        "_said",
        "_stacks",
        "_strays",
        "_terms",
    )

    def __init__(self, child: S, owner: ChildOwner[S], terms: PoolOptions) -> None:
        """Check the messages of ``child``, and pass them on to ``owner``."""
        self._child = child
        self._owner = owner
        self._terms = terms
        self._limits = _limits_of(terms)
        self._can_pack = not terms.is_strict
        self._most_asked = terms.budgets.questions * terms.concurrency
        self._has_begun = False  # READY or START_FAILED was said
        self._left = 0, 0  # answers until then, and what was said since to be left
        self._pings = 0  # that were not answered
        self._profiles = 0  # times that it was asked to sample a job, and has not told
        self._stacks = 0  # times that it was asked where its jobs are, and has not told all
        self._asked = 0  # questions that were not answered
        self._strays = 0  # what was said for no job since the last answer
        self._said: dict[int, tuple[int, int, int]] = {}  # by call: reports, their bytes, lines

    # ── what the child was asked, so that it owes an answer ──

    def ping(self) -> None:
        """Note that the child was asked for a PONG."""
        self._pings += 1

    def forget_pings(self, count: int) -> None:
        """Note that so many PINGs were read back."""
        self._pings -= count

    @property
    def owes_pong(self) -> bool:
        """Whether a PING was not answered."""
        return self._pings > 0

    def ask_for_stacks(self) -> None:
        """Note that the child was asked for stacks."""
        self._stacks += 1

    def ask_for_profile(self) -> None:
        """Note that the child was asked to sample a job."""
        self._profiles += 1

    def answer_question(self) -> None:
        """Note that a question of the child was answered."""
        self._asked -= 1

    # ── its messages ──

    def limit(self, kind: int) -> int:
        """Return how many bytes a message may have."""
        return self._limits.get(kind, 0)

    def take(
        self, kind: int, flags: int, detail: int, spent: Spent, seq: int, payload: bytes
    ) -> None:
        """Check a message, and pass it on. Raises: Breach."""
        if len(payload) > self._limits.get(kind, 0):
            raise Flooded(kind, self._limits.get(kind, 0))
        if kind in _ANSWERS_TO_ONE:
            self._check_answer(kind, flags, detail, seq, payload)
            if max(spent) > MOST_USAGE:
                spent = _bounded(spent)
        elif kind in _REPORTS or kind == LINE:
            if not self._may_say(kind, seq, payload):
                return
        elif kind == LEFT:
            self._check_left()
        else:
            self._check_rare(kind, seq, detail)
        self._owner.on_message(self._child, kind, flags, detail, spent, seq, payload)

    def take_answers(self, packet: bytes) -> None:
        """Check a packet of several answers, and pass it on. Raises: Breach."""
        if not self._can_pack:
            message = "sent several answers in one message"
            raise Breach(message)
        self._owner.on_answers(self._child, packet)

    def _check_answer(self, kind: int, flags: int, detail: int, seq: int, payload: bytes) -> None:
        flying = self._child.flying
        if seq not in flying:
            message = f"answered call {seq}, which it does not have"
            raise Breach(message)
        if not self._child.is_async and next(iter(flying)) != seq:
            message = f"answered call {seq} before the one in front of it"
            raise Breach(message)
        if kind == DONE:
            if flags & HAS_BLOB or payload not in COMMON:
                _check_value(flags, payload)
        elif kind == MOVE and detail == TO_RATE_LIMIT:
            self._check_rate_limit(payload)
        if self._said:
            self._said.pop(seq, None)
        self._strays = 0

    def _check_rate_limit(self, payload: bytes) -> None:
        most = self._terms.budgets.rate_limit
        if decode_move(payload) > most * 1000 + 1:
            message = f"asked for a rate limit of more than {most:g} s"
            raise Breach(message)

    def _may_say(self, kind: int, seq: int, payload: bytes) -> bool:
        """Tell whether it is to be passed on. Raises: Breach when there is too much of it."""
        if seq not in self._child.flying:
            self._strays += 1
            if self._strays > _MOST_STRAYS:
                message = f"sent {_MOST_STRAYS} messages about jobs that have ended"
                raise Breach(message)
            return kind == LINE
        reports, size, lines = self._said.get(seq, (0, 0, 0))
        if kind == LINE:
            lines += 1
        else:
            reports, size = reports + 1, size + len(payload)
            _check_text(kind, payload)
        self._said[seq] = reports, size, lines
        self._check_budgets(reports, size, lines)
        return True

    def _check_budgets(self, reports: int, size: int, lines: int) -> None:
        """Count a report; one more than the limit is passed on, and says that there were more."""
        budgets = self._terms.budgets
        if reports <= budgets.reports + 1 and lines <= budgets.lines + 3:
            if size <= budgets.report_bytes + CHUNK_SIZE:
                return
            message = f"reported more than {budgets.report_bytes} bytes of one job"
            raise Breach(message)
        message = f"sent {reports} reports and {lines} lines of one job"
        raise Breach(message)

    def _check_rare(self, kind: int, seq: int, detail: int) -> None:
        if kind == PONG:
            self._pings -= 1
            if self._pings < 0:
                message = "sent a PONG that nobody asked for"
                raise Breach(message)
        elif kind == REQUEST:
            self._asked += 1
            if self._asked + self._child.unread_answers() > self._most_asked:
                message = f"asked more than {self._most_asked} questions at once"
                raise Breach(message)
        elif kind in (READY, START_FAILED):
            if self._has_begun:
                message = "reported its start twice"
                raise Breach(message)
            self._has_begun = True
        elif kind == STACKS:
            self._check_stacks(seq)
        elif kind == PROFILE:
            self._check_profile()
        elif kind == RETURNED:
            self._check_returned(detail)
        else:
            message = f"sent a message of the unknown kind {kind}"
            raise Breach(message)

    def _check_left(self) -> None:
        """One check finds at most one thing of each kind, and two follow an answer."""
        answered, count = self._left
        count = count + 1 if answered == self._child.answered else 1
        self._left = self._child.answered, count
        if count > _MOST_LEFT:
            message = f"reported {count} times what one job has left"
            raise Breach(message)

    def _check_returned(self, count: int) -> None:
        if not self._can_pack or not count:
            message = "returned calls that were not asked back"
            raise Breach(message)

    def _check_profile(self) -> None:
        self._profiles -= 1
        if self._profiles < 0:
            message = "sent a profile that nobody asked for"
            raise Breach(message)

    def _check_stacks(self, seq: int) -> None:
        if not self._stacks:
            message = "sent stacks that nobody asked for"
            raise Breach(message)
        self._stacks -= not seq


def _limits_of(terms: PoolOptions) -> dict[int, int]:
    """Return the most bytes of each kind of message."""
    budgets = terms.budgets
    failure = budgets.failure_text * 5 // 4 * _BYTES_A_CHARACTER + _FAILURE_REST
    reports = min(budgets.report_bytes + CHUNK_SIZE, MESSAGE_LIMIT)
    return {
        DONE: min(terms.max_result, MESSAGE_LIMIT) + _LONGEST_TABLE,
        FAILED: failure,
        START_FAILED: failure,
        MOVE: 8,
        PROGRESS: reports,
        LOG: reports,
        DATA: reports,
        LINE: _LONGEST_LINE,
        STACKS: _LONGEST_STACK,
        PROFILE: MOST_PACKED,
        REQUEST: _LONGEST_REQUEST,
        LEFT: 8,
    }


def _check_value(flags: int, payload: bytes) -> None:
    if len(payload) > CHUNK_SIZE:
        return  # it came in several packets, and was checked on the way
    if flags & HAS_BLOB:
        end = BLOB_HEAD_SIZE + table_size(memoryview(payload))
        check_json(payload[BLOB_HEAD_SIZE:end])
        payload = payload[end:]
    check_json(payload)


def _check_text(kind: int, payload: bytes) -> None:
    if kind != LOG:
        if len(payload) <= CHUNK_SIZE:
            check_json(payload)
        return
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise NotJson(str(error)) from error


def _bounded(spent: Spent) -> Spent:
    microseconds, user, system, peak = spent
    return microseconds, min(user, MOST_USAGE), min(system, MOST_USAGE), min(peak, MOST_USAGE)
