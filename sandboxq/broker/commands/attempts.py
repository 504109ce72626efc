"""Writes what becomes of attempts: locks (protocol.md 3.7), reports (3.17), outcomes (3.8-3.16).

Reports are progress, log lines and changed data. Outcomes are written in batches. A job whose lock
ran out is put back into its queue (3.18).
"""

from __future__ import annotations

import functools
import json
import math
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Self, assert_never

from redis.exceptions import ResponseError

from sandboxq.broker.commands.batches import BATCH, NO_MARK, marked, run_batches, run_rows
from sandboxq.broker.connect.connection import error_from_reply
from sandboxq.broker.connect.replies import check_number
from sandboxq.broker.connect.script import load
from sandboxq.errors import BrokerUnavailable
from sandboxq.model.job import KEEP_ALL
from sandboxq.model.outcome import (
    AwaitChildren,
    Complete,
    Fail,
    HandBack,
    LimitRate,
    Postpone,
    RetryLater,
    RetryNow,
    Transition,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sandboxq.broker.commands.batches import Mark
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.errors import QueueError
    from sandboxq.model.job import Keep
    from sandboxq.model.outcome import Failed

# Attempts that one call of the script settles: two milliseconds of Redis.
MOST_SETTLED = 200
# Of the interval: a pass that comes a little early must not be refused.
_EXPIRY = 0.95

# How many old jobs one finishing job removes, where its options do not say it.
DEFAULT_KEEP_LIMIT = 1000
# Above this Lua's numbers are no exact integers.
_MOST = 2**53
_TO_THE_FRONT = (HandBack, LimitRate, AwaitChildren)
# The codes of the settle script for each outcome (protocol.md 3.1).
SETTLED = 0
REFUSED = -12
NOT_SETTLED = {
    -1: "the job was removed meanwhile",
    -2: "it is settled already, or its lock had expired",
    -3: "it was no longer active",
    -6: "another worker holds its lock",
}
# The failed reasons, as Node has them, of jobs that may not complete because of their children.
REFUSED_COMPLETION = {
    -4: "Job {} has pending dependencies. moveToFinished",
    -9: "Cannot complete job {} because it has at least one failed child. moveToFinished",
}


async def extend(
    broker: Broker,
    keys: QueueKeys,
    held: Sequence[tuple[bytes, bytes, int | bytes]],
    *,
    lock_ms: int,
    retake: bool = False,
    timeout: float | None = None,
) -> list[bytes]:
    """Make these locks last ``lock_ms`` from now: job id, token, attempts started (b"": unknown).

    ``timeout`` is how many seconds of silence are allowed when that is less than usual.
    ``retake`` takes a lock again that has run out, if its job is still active and nobody else has
    claimed it since.
    Returns the ids whose lock is missing or somebody else's: those jobs are no longer ours.
    """
    head = (lock_ms, int(retake))
    replies = await run_batches(broker, load("extend"), keys, head, held, timeout=timeout)
    return [job_id for reply in replies for job_id in reply]


async def recover_stalled(
    broker: Broker,
    keys: QueueKeys,
    *,
    now_ms: int,
    interval_ms: int,
    max_stalled_count: int,
    is_server_time: bool = False,
) -> list[bytes]:
    """Put active jobs without a lock back into the queue, and return their ids.

    Needs two passes: the first notes which jobs are active, the next takes those whose lock was not
    renewed since. All workers together make one pass in each ``interval_ms``. A job that stalled
    more than ``max_stalled_count`` times goes back with a deferred failure: its next worker must
    fail it. With ``is_server_time`` a call that was delayed does nothing: Redis stood still, so
    nobody could renew.
    """
    expiry_ms = round(interval_ms * _EXPIRY)
    args = (now_ms, expiry_ms, max_stalled_count, int(is_server_time))
    ids: list[bytes] = await broker.script(load("stalled"), (keys.base,), args)
    return ids


async def put_off_stalled(broker: Broker, keys: QueueKeys, *, now_ms: int, for_ms: int) -> None:
    """Let no worker, Node's included, look for stalled jobs for so long.

    Raises: BrokerUnavailable, QueueError.
    """
    key = keys["stalled-check"]
    if int(await broker.command("PTTL", key)) < for_ms:
        await broker.command("SET", key, now_ms, "PX", for_ms)


class Report(NamedTuple):
    """What the attempt with ``token`` reports of its job.

    ``kind`` is ``progress`` or ``data`` (payload: JSON text), ``log`` (payload: one row of
    the log) or ``lines`` (payload: several, with newlines between them),
    or ``profile`` (payload: see sandboxq.model.profile).
    ``keep_logs`` is how many log lines stay; 0: all.
    """

    job_id: bytes
    token: bytes
    kind: str
    payload: bytes
    keep_logs: int = 0


async def report(
    broker: Broker, keys: QueueKeys, reports: Sequence[Report], *, mark: Mark = NO_MARK
) -> list[int | QueueError]:
    """Write these reports in order; return one code for each.

    0: written. -1: no such job; -2: it has no lock; -6: another's lock: nothing was written. A
    QueueError in its place when Redis could not write this one.
    """
    codes = await run_rows(broker, load("report"), keys, (), reports, mark=mark)
    return [
        code
        if isinstance(code, int)
        else error_from_reply(ResponseError(code.decode(errors="replace")))
        for code in codes
    ]


async def reported(broker: Broker, mark: Mark, reports: Sequence[Report]) -> list[bool]:
    """Return which of these a ``report`` with this mark, whose reply was lost, has handled.

    Raises: BrokerUnavailable.
    """
    calls = await marked(broker, mark)
    return [place // BATCH in calls for place in range(len(reports))]


class Refusal(int):
    """The code REFUSED, and the error."""

    error: Exception

    def __new__(cls, error: Exception) -> Self:
        """Make the code of one outcome."""
        code = super().__new__(cls, REFUSED)
        code.error = error
        return code


class Settlement(NamedTuple):
    """How the attempt with ``token`` ends.

    ``usage`` is µs of wall time, µs of CPU in its code and in the kernel, peak bytes. ``is_plain``
    as the claim said: the job was never run before, has no parent and no deduplication, and as the
    queue chose its id no later add can change that. Such a job need not be read.
    """

    job_id: bytes
    token: bytes
    transition: Transition
    usage: tuple[int, int, int, int] | None = None
    is_plain: bool = False
    started: int | None = None


# As Settlement(*fields) does, without a step of Python for each.
_transition = itemgetter(2)
settlement_from: Callable[[tuple[Any, ...]], Settlement] = functools.partial(
    tuple.__new__, Settlement
)


async def settle(
    broker: Broker,
    keys: QueueKeys,
    settlements: Sequence[Settlement],
    *,
    now_ms: int,
    metrics_points: int = 0,
    retake: bool = False,
    mark: Mark = NO_MARK,
) -> list[int]:
    """Write how these attempts ended; return one code for each, 0 or why it was refused.

    -1: no such job; -2: it has no lock; -6: somebody else's lock; -4, -9: children are pending or
    have failed; -3: not active (its lock is gone); -12, a ``Refusal``: Redis refused a command for
    it: it stays active, and the others are settled. Settling an attempt twice changes nothing.
    What is handed back must come in the order in which it was claimed; it returns to the front of
    its queue in that order. ``metrics_points`` is how many minutes of metrics to keep; 0: none.
    ``retake`` settles a job too whose lock has run out, if it is still active and was not claimed
    again. ``mark`` tells ``settled`` what was done when the reply is lost.
    """
    order = _placing_order(settlements)
    rows = settlements if order is None else [settlements[index] for index in order]
    head = (now_ms, metrics_points, int(retake), mark.key)
    calls: list[tuple[Sequence[str], Sequence[Argument]]] = []
    for start in range(0, len(rows), MOST_SETTLED):
        runs = _runs(rows[start : start + MOST_SETTLED])
        calls.append(((keys.base,), [*head, mark.entry(start // MOST_SETTLED), *runs]))
    replies = await broker.scripts(load("settle"), calls)
    for reply in replies:
        if reply and type(reply[-1]) is bytes:
            _name_refusals(reply)
    check_number("settle", replies, len(rows), MOST_SETTLED)
    in_order: list[int] = list(chain.from_iterable(replies))
    if order is None:
        return in_order
    codes = [0] * len(settlements)
    for index, code in zip(order, in_order, strict=True):
        codes[index] = code
    return codes


def _name_refusals(reply: list[Any]) -> None:
    """Put the error at the end of a reply in the place of each code REFUSED.

    Raises: BrokerUnavailable when Redis refuses for now, say for want of memory.
    """
    error = error_from_reply(ResponseError(reply.pop().decode(errors="replace")))
    if isinstance(error, BrokerUnavailable):
        raise error
    reply[:] = [Refusal(error) if code == REFUSED else code for code in reply]


async def settled(
    broker: Broker, mark: Mark, settlements: Sequence[Settlement]
) -> list[int | None]:
    """Return the codes of a ``settle`` with this mark whose reply was lost or an error.

    None for each that it did not settle. Raises: BrokerUnavailable.
    """
    order = _placing_order(settlements) or range(len(settlements))
    codes: list[int | None] = [None] * len(settlements)
    for call, text in (await marked(broker, mark)).items():
        places = order[call * MOST_SETTLED : (call + 1) * MOST_SETTLED]
        known = [int(code) for code in text.rstrip("!").split(",") if code]
        for place, code in zip(places, known if text else [0] * len(places), strict=False):
            codes[place] = None if code == REFUSED else code
    return codes


def _placing_order(settlements: Sequence[Settlement]) -> Sequence[int] | None:
    """Return the indexes in the order to send, None for as they come.

    Each job handed back is put in front of all others, so the one claimed first must come last.
    """
    if set(map(type, map(_transition, settlements))).isdisjoint(_TO_THE_FRONT):
        return None
    handed_back = [i for i, each in enumerate(settlements) if isinstance(each[2], _TO_THE_FRONT)]
    others = [i for i, each in enumerate(settlements) if not isinstance(each[2], _TO_THE_FRONT)]
    return others + handed_back[::-1]


def _runs(settlements: Sequence[Settlement]) -> list[Argument]:
    """Return the script's arguments: what adjacent rows have in common is sent once."""
    arguments: list[Any] = []
    last: tuple[str | bytes | int, ...] = ()
    length = 0
    before: tuple[object, ...] = ()  # what of the last one's fields its ``common`` was made of
    for settlement in settlements:
        job_id, token, transition, usage, is_plain, number = settlement
        if is_plain and usage is not None and type(transition) is Complete:
            these = token, transition.keep, number, transition.reference
            if these == before:  # nearly always, so in few steps
                arguments[length] += 1
                arguments += (job_id, transition.value, b"%d %d %d %d" % usage)
                continue
            before = these
        else:
            before = ()
        common, own = _row(settlement)
        if common != last:
            last, length = common, len(arguments) + len(common)
            arguments += (*common, 0)
        arguments[length] += 1
        arguments += own
    return arguments


def _row(settlement: Settlement) -> tuple[tuple[str | bytes | int, ...], tuple[bytes, ...]]:
    """Return what rows may share, (kind, token, rule, attempt), and the rest: (id, text, usage)."""
    job_id, token, transition, usage, is_plain, number = settlement
    started: bytes | int = b"" if number is None else number
    used = b"" if usage is None else b"%d %d %d %d" % usage
    if isinstance(transition, Complete):
        keep, reference = transition.keep, transition.reference
        rule = "" if keep is KEEP_ALL else _keep_rule(keep)
        if reference:
            return ("c", token, f"{rule}\n{reference}", started), (job_id, transition.value, used)
        kind = "C" if is_plain and keep.count != 0 else "c"
        return (kind, token, rule, started), (job_id, transition.value, used)
    match transition:
        case Fail():
            kind, (text, rule) = "f", failure_row(transition)
        case RetryNow(failure, limit, lifo):
            kind, (text, rule) = "r", _failure(failure, limit, {"lifo": lifo})
        case RetryLater(failure, limit, delay_ms):
            kind, (text, rule) = "d", _failure(failure, limit, {"delay": delay_ms})
        case HandBack(was_started, facts, _):
            text = json.dumps(_fields(facts)).encode() if facts else b""
            kind, rule, used = "h", "1" if was_started else "", b""
        case _:
            kind, rule = _move(transition)
            text, used = b"", b""
    return (kind, token, rule, started), (job_id, text, used)


def _move(transition: Postpone | AwaitChildren | LimitRate) -> tuple[str, str]:
    """Return kind and rule of a transition that the processor asked for."""
    match transition:
        case Postpone(delay_ms):
            return "p", str(delay_ms)
        case AwaitChildren():
            return "w", ""
        case LimitRate(limit_ms):
            return "l", str(limit_ms)
        case _:
            assert_never(transition)


def failure_row(end: Fail) -> tuple[bytes, str]:
    """Return reason and rule of a final failure, as failure.lua wants them."""
    rule = {"keep": _keep_rule(end.keep), "attempts": end.attempts}
    return _failure(end.failure, end.stack_trace_limit, rule)


@functools.lru_cache(maxsize=1024)
def _keep_rule(keep: Keep) -> str:
    if keep.count is None and keep.age is None:
        return ""
    count = -1 if keep.count is None else keep.count
    # Node removes what is older than a fraction of a millisecond too; more digits are rounding.
    age_ms = -1 if keep.age is None else math.ceil(min(keep.age * 1000, _MOST) - 1e-6)
    return f"{count} {age_ms} {DEFAULT_KEEP_LIMIT if keep.limit is None else keep.limit}"


def _failure(failure: Failed, limit: int | None, rule: dict[str, object]) -> tuple[bytes, str]:
    facts = [] if not failure.cause else ["sq:cause", _text(failure.cause)]
    facts += _fields(failure.facts or {})
    # As Node, whose errors all have a stack: there is an entry for each failed attempt.
    stack = failure.stack or f"{failure.cause or 'Error'}: {failure.reason}"
    rule |= {"stack": _text(stack), "facts": facts}
    if limit is not None:
        rule["limit"] = limit
    return _text(failure.reason).encode(), json.dumps(rule)


def _fields(facts: Mapping[str, str]) -> list[str]:
    """Return names and values of hash fields in turns."""
    return [part for name, value in facts.items() for part in (f"sq:{_text(name)}", _text(value))]


def _text(text: str) -> str:
    """Return text that UTF-8 can carry: lone surrogates, as in odd file names, are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
