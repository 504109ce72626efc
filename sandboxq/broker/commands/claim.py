"""Claims jobs: takes them out of the queue and locks them (protocol.md 3.6).

An idle worker waits for a marker and claims in the same round trip:

    worker ──TIME, BZPOPMIN marker, EVALSHA claim──► Redis runs the claim when the pop returns
    worker ◄──────────────── jobs ─────────────────

A worker that popped the marker first and then claimed would start each job two wake-ups later.
"""

from __future__ import annotations

import asyncio
import contextlib
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import NoScriptError, ResponseError

from sandboxq.broker.connect.connection import error_from_reply
from sandboxq.broker.connect.script import load
from sandboxq.broker.connect.server_info import ms_from_time
from sandboxq.errors import QueueError
from sandboxq.model.outcome import NO_CRASHES, Crashes, crashes_from_facts

if TYPE_CHECKING:
    from collections.abc import Collection

    from sandboxq.broker.connect.blocking import BlockingReader
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.connect.resp import Argument
    from sandboxq.broker.connect.server_info import Reading
    from sandboxq.broker.keys import QueueKeys

# More would keep Redis from its other clients for more than two milliseconds.
MAX_CLAIM = 200
# Locks that one command reads.
_LOCKS_AT_ONCE = 1000
# No limit of bytes.
MOST_BYTES = 2**53
# A job that was never run has so many fields, see lua/includes/claimed.lua.
_FRESH = 7
# The ids that a queue gives by counting, as decimal numbers. No client takes such an id for a job
# of its own, so no later add can mean the same job (protocol.md 1.6, 3.4). Longer ones
# JavaScript cannot count with, and takes for names.
_LONGEST_GIVEN = 15
_ZERO = 48  # ord("0")
# The most attempts, stalls or crashes of a job that a call can carry.
_MOST_COUNTED = 2**31 - 1
# Bytes of an invalid field that an error shows.
_SHOWN = 100

# The time argument of the claim: the server's own time when it runs.
_BY_SERVER = 0
# Who is woken before Redis has read what to wait for sleeps on: it is woken again, later and later.
_FIRST_AGAIN = 0.005
_LAST_AGAIN = 0.2


class ClaimedJob(NamedTuple):
    """A job as its hash stood after the claim; texts are as in Redis, empty where there is none.

    ``unreadable`` says which field is invalid, if one is: such a job is claimed and must fail.
    """

    id: bytes
    name: bytes
    data: bytes
    opts: bytes
    timestamp: bytes
    priority: bytes
    delay: bytes
    is_plain: bool = False  # see ``Settlement``
    processed_on: int = 0  # when it was claimed, ms since the epoch
    attempts_made: int = 0
    attempts_started: int = 1
    stalled_counter: int = 0
    deferred_failure: bytes = b""
    parent: bytes = b""
    parent_key: bytes = b""
    progress: bytes = b""
    scheduler_id: bytes = b""
    crashes: Crashes = NO_CRASHES
    binary: bytes = b""  # where its arrays and bytes are: see binary.py
    unreadable: str = ""
    deduplication_id: bytes = b""
    failed_reason: bytes = b""  # of the attempt before


# What a job has that was never run; and what makes a tuple without a step of Python.
_NEVER_RUN = tuple(ClaimedJob._field_defaults.values())[2:]
_new = tuple.__new__


class Claim(NamedTuple):
    """What one claim returned: jobs, or why there are none.

    ``rate_limit_ms`` is how long the current window still lasts, when it is used up.
    ``next_delayed_ms`` is when the earliest delayed job is due (0: none), told when fewer jobs than
    could be claimed were there. ``is_blocked``: the queue is paused or at its global concurrency.
    """

    jobs: list[ClaimedJob]
    rate_limit_ms: int
    next_delayed_ms: int
    is_blocked: bool


class Claimant(NamedTuple):
    """What is the same for all claims of a worker: see ``claim``."""

    lock_ms: int
    worker_name: str = ""
    limiter: tuple[int, int] | None = None


class Bounds(NamedTuple):
    """Limits of one claim besides the number of jobs.

    Jobs that together have more than ``max_bytes`` are not claimed at once, but at least one is.
    Those beyond the first ``at_once`` are claimed ahead: until something else is known they have
    not begun, and do not count as stalled when their worker dies.
    """

    max_bytes: int = MOST_BYTES
    at_once: int = MAX_CLAIM


NO_BOUNDS = Bounds()


async def claim(
    broker: Broker,
    keys: QueueKeys,
    *,
    limit: int,
    token: str,
    lock_ms: int,
    now_ms: int,
    worker_name: str = "",
    limiter: tuple[int, int] | None = None,
) -> Claim:
    """Claim up to ``limit`` jobs (at most MAX_CLAIM), each locked by ``token`` for ``lock_ms``.

    ``limiter`` is the worker's own rate limit, (jobs, window in ms). Also moves what is due from
    ``delayed`` to where it waits. Ids without a job are dropped from the queue on the way.
    """
    if limit < 1:
        return Claim([], 0, 0, is_blocked=False)
    claimant = Claimant(lock_ms, worker_name, limiter)
    return await claim_as(
        claimant, broker, keys, limit=limit, token=token, now_ms=now_ms, bounds=NO_BOUNDS
    )


async def claim_as(
    claimant: Claimant,
    broker: Broker,
    keys: QueueKeys,
    *,
    limit: int,
    token: str,
    now_ms: int,
    bounds: Bounds,
) -> Claim:
    """Do what ``claim`` does, within these bounds."""
    arguments = (now_ms, *arguments_of(claimant, limit, token, bounds))
    return claim_from_reply(await broker.script(load("claim"), (keys.base,), arguments))


async def locked_by(
    broker: Broker,
    keys: QueueKeys,
    tokens: Collection[str],
    *,
    look_at: int = 0,
    timeout: float | None = None,
) -> dict[bytes, bytes]:
    """Return the active jobs that are locked by one of these tokens, and its token for each.

    Last claimed first; ``look_at`` is how many of all active jobs are looked at, 0: all.
    ``timeout`` is how many seconds of silence are allowed when that is less than usual.
    """
    # A script would keep Redis from its other clients for ten times as long.
    newest = ("LRANGE", keys["active"], 0, look_at - 1)
    (ids,) = await broker.pipeline([newest], timeout=timeout)
    lock_keys = [keys.base.encode() + job_id + b":lock" for job_id in ids]
    firsts = range(0, len(ids), _LOCKS_AT_ONCE)
    commands = [("MGET", *lock_keys[first : first + _LOCKS_AT_ONCE]) for first in firsts]
    locks = chain.from_iterable(await broker.pipeline(commands, timeout=timeout))
    wanted = {token.encode() for token in tokens}
    return {job_id: lock for job_id, lock in zip(ids, locks, strict=True) if lock in wanted}


def arguments_of(
    claimant: Claimant, limit: int, token: str, bounds: Bounds
) -> tuple[Argument, ...]:
    """Return the script's arguments after the time."""
    max_jobs, window_ms = claimant.limiter or ("", "")
    lock_ms, name = claimant.lock_ms, claimant.worker_name
    return (min(limit, MAX_CLAIM), token, lock_ms, name, max_jobs, window_ms, *bounds)


def claim_from_reply(reply: list[Any]) -> Claim:
    """Return the claim of a script's reply."""
    rows, rate_limit_ms, next_delayed_ms, is_blocked, now = reply
    now_ms = int(now)
    jobs: list[ClaimedJob] = []
    for row in rows:
        if row[0] == 0:
            jobs += _fresh(row, now_ms)
        elif len(row) == _FRESH:
            jobs += _fresh([0, row[1], row[3], *row[5:], row[0], row[2], row[4]], now_ms)
        else:
            jobs.append(_claimed_before(row, now_ms))
    return Claim(jobs, rate_limit_ms, next_delayed_ms, bool(is_blocked))


def _fresh(row: list[Any], now_ms: int) -> list[ClaimedJob]:
    """Return jobs that were never run and have name, options, priority and delay in common."""
    _, name, opts, priority, delay = row[:5]
    rest = (now_ms, *_NEVER_RUN)
    # As ClaimedJob(…) does, in a third of the steps.
    return [
        _new(
            ClaimedJob,
            (job_id, name, data, opts, timestamp, priority, delay)  # noqa: RUF005 - half the steps
            + (job_id.isdigit() and len(job_id) <= _LONGEST_GIVEN and job_id[0] != _ZERO,)
            + rest,
        )
        for job_id, data, timestamp in zip(row[5::3], row[6::3], row[7::3], strict=True)
    ]


def _claimed_before(row: list[Any], now_ms: int) -> ClaimedJob:
    """Return a job that was run before, or has fields beyond those of every job."""
    (
        job_id, name, data, opts, timestamp, priority, delay, made, started, stalled, deferred,
        parent, parent_key, progress, scheduler_id, crashes, binary, history, beside,
        deduplication_id, failed_reason,
    ) = row  # fmt: skip
    counted = _Counted()
    return ClaimedJob(
        job_id,
        name,
        data or b"",
        opts or b"",
        timestamp or b"",
        priority or b"",
        delay or b"",
        is_plain=False,
        processed_on=now_ms,
        attempts_made=counted.number("atm", made),
        attempts_started=counted.number("ats", started),
        stalled_counter=counted.number("stc", stalled),
        deferred_failure=deferred or b"",
        parent=parent or b"",
        parent_key=parent_key or b"",
        progress=progress or b"",
        scheduler_id=scheduler_id or b"",
        crashes=_crashes(counted, crashes, history, beside) if crashes else NO_CRASHES,
        binary=binary or b"",
        unreadable=counted.complaint,
        deduplication_id=deduplication_id or b"",
        failed_reason=failed_reason or b"",
    )


def _crashes(
    counted: _Counted, count: bytes, history: bytes | None, beside: bytes | None
) -> Crashes:
    text = (history or b"").decode(errors="replace")
    return crashes_from_facts(
        counted.number("sq:crashes", count), text, counted.number("sq:beside", beside)
    )


class _Counted:
    """Reads the counters of one job's hash, and notes one that is invalid."""

    def __init__(self) -> None:
        self.complaint = ""

    def number(self, field: str, text: bytes | None) -> int:
        """Return the number in a field, 0 for none or nonsense."""
        try:
            number = int(text or 0)
        except ValueError:
            number = -1
        if 0 <= number <= _MOST_COUNTED:
            return number
        shown = (text or b"")[:_SHOWN].decode(errors="backslashreplace")
        self.complaint = (
            f"field {field!r} of the job's hash must be a whole number from 0 to {_MOST_COUNTED}, "
            f"not {shown!r}: somebody else has written it"
        )
        return 0


class WaitingClaim:
    """A connection of its own, for one claim at a time."""

    def __init__(
        self, broker: Broker, keys: QueueKeys, *, claimant: Claimant, client_name: str
    ) -> None:
        """Claim from this queue; dashboards find the worker by its ``client_name``."""
        self._broker = broker
        self._keys = keys
        self._claimant = claimant
        self._client_name = client_name
        self._reader: BlockingReader | None = None
        self._is_hurried = False
        self.is_waiting = False

    async def open(self) -> None:
        """Connect under the worker's name, again where that was lost. Raises: BrokerUnavailable."""
        reader = await self._opened()
        await self._compare_clocks(reader)

    @property
    def received(self) -> int:
        """How many bytes of the pending answer have come."""
        return 0 if self._reader is None else self._reader.received

    async def run(self, *, limit: int, token: str, timeout: float, bounds: Bounds) -> Claim | None:
        """Claim when a marker comes, or after ``timeout`` seconds; None when nothing was claimed.

        Raises: BrokerUnavailable; whether jobs were claimed is unknown then.
        """
        reader, marker = await self._opened(), self._keys["marker"]
        arguments = ("", *arguments_of(self._claimant, limit, token, bounds), _BY_SERVER)
        call = ("EVALSHA", load("claim").sha, 1, self._keys.base, *arguments)
        timeout = 0.0 if self._is_hurried else timeout
        self.is_waiting = True
        asked = self._broker.time.reading()
        try:
            time, popped, reply = await reader.pop_marker_and_run(marker, timeout, call)
        except QueueError as error:
            if isinstance(error.__cause__, NoScriptError):
                return None  # the server was restarted: an ordinary claim loads the script
            raise
        finally:
            self.is_waiting = False
        # Jobs are started first.
        asyncio.get_running_loop().call_soon(self._note_time, asked, time)
        claim = claim_from_reply(reply)
        if isinstance(popped, ResponseError) and not claim.jobs:
            # Nothing waited: going on as if it had would be a busy loop.
            raise error_from_reply(popped) from popped
        return claim

    def _note_time(self, asked: Reading, time: list[bytes]) -> None:
        self._broker.time.note_least(asked, ms_from_time(time))

    async def hurry(self) -> None:
        """Make a waiting ``run`` claim and return now, and none wait until ``calm``."""
        self._is_hurried = True
        again = _FIRST_AGAIN
        while self.is_waiting and self._is_hurried and self._reader is not None:
            with contextlib.suppress(QueueError):
                await self._reader.unblock()
            await asyncio.sleep(again)
            again = min(2 * again, _LAST_AGAIN)

    def calm(self) -> None:
        """Let ``run`` wait for jobs again."""
        self._is_hurried = False

    async def close(self) -> None:
        """Close the connection; twice is harmless."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()

    async def _opened(self) -> BlockingReader:
        if self._reader is None:
            self._reader = await self._broker.blocking(self._client_name, self._keys["marker"])
        return self._reader

    async def _compare_clocks(self, reader: BlockingReader) -> None:
        asked = self._broker.time.reading()
        server_time = await reader.time()
        self._broker.time.note(asked, ms_from_time(server_time))
