"""Reports of running jobs that are not in Redis yet: progress, log rows, new data.

Settler.report ──► add ──► write ──► Redis
                             │ the reply is lost, or an error: half as many the next time,
                             └─ and first it is asked what was written (broker/commands/batches.py)

How much goes into one exchange with Redis: not only so many rows, but so many bytes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from sandboxq.broker.commands.attempts import report, reported
from sandboxq.broker.commands.batches import Mark
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.model.outcome import (
    Complete,
    Fail,
    RetryLater,
    RetryNow,
)
from sandboxq.worker.service import Seldom

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.broker.commands.attempts import Report
    from sandboxq.model.outcome import Transition
    from sandboxq.worker.context import WorkerContext

Run = tuple[bytes, bytes]  # of which job, and its token
_log = logging.getLogger("sandboxq.worker")

# Rows in one round trip, so that none takes too long.
MOST_REPORTS = 1000
# While more than this waits for Redis, children that report are not read: their code waits.
MOST_UNWRITTEN = 20_000
MOST_UNWRITTEN_BYTES = 32 << 20
# Printed lines are short, and Redis needs a microsecond for each: in the time of those that have
# 4 MB it could renew no locks.
_LINES_WEIGHT = 8
# What alone is refused so often, whatever the error, is given up.
MOST_TRIES = 3

R = TypeVar("R")
# Seconds of a slow link: what is lost when it breaks is sent again. Redis serves nobody meanwhile.
MOST_BYTES = 4 << 20
# Rows of this size or less need not be weighed: as many as ever go together are not too heavy.
LIGHT = 400
# An exchange that was lost with more than this was perhaps lost for its size.
LARGE = 256 << 10


class Reports:
    """Keeps every report until Redis has taken or refused it."""

    def __init__(self, context: WorkerContext, mark_key: str) -> None:
        """Begin with none; ``mark_key`` is for the marks of this worker's reports."""
        self._broker = context.broker
        self._keys = context.keys
        self._mark = Mark(mark_key, 0)
        self.unwritten_bytes = 0
        self._most = MOST_REPORTS
        self._tries = 0
        self._seldom = Seldom()
        # Of these it is not known whether Redis has them.
        self._unsure: list[Report] = []
        self._has_dropped = asyncio.Event()
        self.rows: list[Report] = []

    @property
    def is_flooded(self) -> bool:
        """Whether more wait for Redis than should be held."""
        return self.unwritten_bytes > MOST_UNWRITTEN_BYTES or len(self.rows) > MOST_UNWRITTEN

    @property
    def mark_key(self) -> str:
        """The key of the marks."""
        return self._mark.key

    def next_ones(self) -> Sequence[Report]:
        """Return what the next round trip writes: not too many, nor too large."""
        return lightest(self.rows, self._most, _weight)

    def add(self, row: Report) -> None:
        """Take one, to be written behind those that were taken before."""
        self.unwritten_bytes += len(row.payload)
        self.rows.append(row)

    async def until_written(self, runs: set[Run]) -> None:
        """Return once there is nothing of these runs."""
        while any((row.job_id, row.token) in runs for row in self.rows):
            self._has_dropped.clear()
            await self._has_dropped.wait()

    async def catch_up(self) -> None:
        """Find out which reports were written whose reply was lost. Raises: BrokerUnavailable."""
        if not self._unsure:
            return
        known = await self._known(self._unsure)
        self._drop([row for row, is_known in zip(self._unsure, known, strict=True) if is_known])
        self._unsure = []

    async def write(self) -> bool:
        """Write the oldest, as many as one round trip should take; tell whether that is done.

        Raises: BrokerUnavailable; then ``catch_up`` goes before the next try.
        """
        rows = self._unsure = list(self.next_ones())
        self._mark = self._mark._replace(number=self._mark.number + 1)
        try:
            codes = await report(self._broker, self._keys, rows, mark=self._mark)
        except BrokerUnavailable as error:
            self._halve(rows)
            if error.moved > LARGE:
                size = sum(len(row.payload) for row in rows)
                kind = "reports were lost on their way, and are sent again in smaller groups"
                self._seldom.warn(kind, f"{len(rows)} of {size / 1e6:.1f} MB: {error}")
            raise
        except Exception as error:  # noqa: BLE001 - of many rows one may be the cause: see below
            self._seldom.warn("reports were refused, and are sent again in smaller groups", error)
            self._halve(rows)
            self._tries += 1
            if len(rows) > 1 or self._tries < MOST_TRIES:
                return False
        else:
            self._say_refused(rows, codes)
            self._most = min(2 * self._most, MOST_REPORTS)
        self._tries = 0
        self._unsure = []
        self._drop(rows)
        return True

    async def _known(self, rows: list[Report]) -> list[bool]:
        try:
            return await reported(self._broker, self._mark, rows)
        except BrokerUnavailable:
            raise
        except QueueError as error:
            _log.warning("what was written before the connection broke is unknown: %s", error)
            return [False] * len(rows)

    def _halve(self, rows: list[Report]) -> None:
        self._most = max(1, len(rows) // 2)

    def _say_refused(self, rows: list[Report], codes: Sequence[int | QueueError]) -> None:
        # Progress and log rows are not worth an outcome: said, and gone.
        errors = [
            (row, code) for row, code in zip(rows, codes, strict=True) if code.__class__ is not int
        ]
        if errors:
            row, error = errors[0]
            job_id = row.job_id.decode(errors="replace")
            _log.error(
                "Redis refused %d of %d progress and log rows, the first of job %s: %s",
                len(errors), len(rows), job_id, error,
            )  # fmt: skip

    def _drop(self, rows: list[Report]) -> None:
        if rows == self.rows[: len(rows)]:
            del self.rows[: len(rows)]
        else:
            gone = set(map(id, rows))
            self.rows = [row for row in self.rows if id(row) not in gone]
        self.unwritten_bytes -= sum(len(row.payload) for row in rows)
        self._has_dropped.set()


def _weight(row: Report) -> int:
    size = len(row.payload)
    return _LINES_WEIGHT * size if row.kind == "lines" else size


def lightest(rows: Sequence[R], most: int, weigh: Callable[[R], int]) -> Sequence[R]:
    """Return the first rows, at most so many and so heavy as go together; one goes always."""
    size = 0
    for place, row in enumerate(rows[:most]):
        size += weigh(row)
        if size > MOST_BYTES and place:
            return rows[:place]
    return rows[:most]


def weight_of(transition: Transition) -> int:
    """Return about how many bytes the transition of a job has."""
    match transition:
        case Complete():
            return len(transition.value)
        case Fail() | RetryNow() | RetryLater():
            return len(transition.failure.reason) + len(transition.failure.stack)
        case _:
            return 0
