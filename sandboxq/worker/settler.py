"""Collects reports and outcomes of attempts, and writes them to Redis in batches.

pool ──report──► reports ─┐
     ──outcome─► endings ─┴─► flush: report script, then settle script ──► Redis
                    ▲           │ Redis away: everything is kept and sent again
                    └───────────┘ an error: in halves, until what is refused stands alone

Large reports and outcomes, with all others of the same run, go by a settler of their own: on a slow
link others would wait for seconds until these are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import uuid
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.commands.attempts import (
    NOT_SETTLED,
    REFUSED_COMPLETION,
    SETTLED,
    Refusal,
    Report,
    settle,
    settled,
    settlement_from,
)
from sandboxq.broker.commands.batches import Mark
from sandboxq.errors import BrokerUnavailable, JobHasFailedChildren, QueueError
from sandboxq.model.outcome import (
    AwaitChildren,
    Complete,
    Completed,
    Failed,
    HandedBack,
    Retention,
    RetryRules,
    complete,
)
from sandboxq.observe.telemetry import JobProgressed
from sandboxq.worker.attempt import DEFAULT_OPTIONS, ENDED, LOST, RUNNING, Announcer, end_span
from sandboxq.worker.reports import LARGE, LIGHT, MOST_TRIES, Reports, lightest, weight_of
from sandboxq.worker.service import Seldom
from sandboxq.worker.transitions import complete_together, decided

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sandboxq.broker.commands.attempts import Settlement
    from sandboxq.model.outcome import Outcome, Transition
    from sandboxq.pool.calls import End
    from sandboxq.worker.attempt import Attempt, Ending
    from sandboxq.worker.context import WorkerContext
    from sandboxq.worker.reports import Run

_log = logging.getLogger("sandboxq.worker")

# While jobs of microseconds end one after the other, so many outcomes, or those of so many looks,
# gather before they are written: an exchange for each would cost more than the jobs.
_GATHERED = 100
_GATHER_LOOKS = 5
_LOOK_SECONDS = 0.002
# One round trip settles no more: the rest waits for the next.
MOST_ENDINGS = 10_000
LARGE_ONES = "settler of large values"
_DECIDED = (ENDED, LOST)
# A user of Redis who lacks a permission: no fault of a row. Scripts have words of their own for it.
_NOT_PERMITTED = re.compile(r"NOPERM|no permissions to|ACL failure|executing the script can't")
# Seconds until outcomes are sent again that this user may not write.
_PERMISSION_DELAY = 1.0


class _Sent(NamedTuple):
    """An exchange of which it is not known what Redis did with it."""

    endings: list[Ending]
    settlements: list[Settlement]


class Settler:
    """Keeps every outcome until Redis has taken it, or the lock is certainly lost."""

    def __init__(self, context: WorkerContext, *, light: Settler | None = None) -> None:
        """Settle the jobs that are held; ``light`` has what is not large, and asks this one."""
        # The runs of which the settler of large ones has something.
        self.large_runs: set[Run] = light.large_runs if light is not None else set()
        self._light = light
        self._large = Settler(context, light=self) if light is None else None
        self._broker = context.broker
        self._keys = context.keys
        self._settings = settings = context.settings
        self._held = context.held
        self._telemetry = context.telemetry
        self._announcer = Announcer(context.telemetry, context.keys.queue)
        self._retention = Retention(settings.remove_on_complete, settings.remove_on_fail)
        self._rules = RetryRules(
            settings.backoff_strategies, settings.max_started_attempts, settings.max_crashes
        )
        worker_id = str(uuid.uuid4())
        self._reports = Reports(context, context.keys.mark_key(f"{worker_id}:reports"))
        self._mark = Mark(context.keys.mark_key(f"{worker_id}:endings"), 0)
        self._endings: list[Ending] = []
        self._most = MOST_ENDINGS
        self._has_heavy = False  # when what waits must be weighed
        self._unsure: _Sent | None = None
        self._seldom = Seldom()
        self._work = asyncio.Event()
        # Whether more outcomes will come at once: told by whoever has the pool.
        self.is_rushed: Callable[[], bool] = bool

    # ── what comes in ──

    def report(self, attempt: Attempt, kind: str, payload: bytes) -> None:
        """Take progress, a log row or new data of a running attempt."""
        if attempt.state is RUNNING:
            keep_logs = attempt.options.keep_logs or 0
            row = Report(attempt.job.id, attempt.token, kind, payload, keep_logs)
            self._settler_of(attempt, len(payload)).take_report(row)
            if kind == "progress" and self._telemetry.wants(JobProgressed):
                job_id = attempt.job.id.decode(errors="replace")
                self._telemetry.emit(JobProgressed(job_id, payload))

    def take_report(self, row: Report) -> None:
        """Take what was reported, to be written behind what was taken before."""
        self._reports.add(row)
        self._work.set()

    @property
    def is_flooded(self) -> bool:
        """Whether more reports wait for Redis than should be held."""
        large = self._large
        return self._reports.is_flooded or (large is not None and large.is_flooded)

    def _settler_of(self, attempt: Attempt, size: int) -> Settler:
        """Return the settler of a run: one has all of it, to keep the order."""
        if self._large is None:
            return self
        run = attempt.job.id, attempt.token
        if size > LARGE:
            self.large_runs.add(run)
        return self._large if run in self.large_runs else self

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Take the outcome of an attempt, and decide what follows; a second one is dropped."""
        if attempt.state in _DECIDED:
            return
        attempt.state = ENDED
        # The call knows its attempt: left as a ring, both would wait for the garbage collector.
        attempt.call = None
        transition: Transition
        if isinstance(outcome, Completed):  # nearly always, so in few steps
            transition = complete(outcome, attempt.options, self._retention)
            if len(transition.value) <= LIGHT and not self.large_runs:
                if not self._endings:  # else this is known already
                    self._work.set()
                self._endings.append((attempt, transition))
            else:
                self._take_weighed(attempt, transition)
        else:
            transition = decided(attempt, outcome, self._retention, self._rules)
            self._take_weighed(attempt, transition)
        if attempt.span is not None:
            end_span(attempt, transition)

    def complete_all(self, ends: Sequence[End]) -> Sequence[End]:
        """Take what jobs of microseconds have returned, as ``end`` does, in few steps.

        Return those that are for ``end``, as there is more to say of them.
        """
        if self.large_runs:
            return ends
        others = complete_together(ends, self._endings, self._retention.completed)
        self._work.set()
        return others

    def _take_weighed(self, attempt: Attempt, transition: Transition) -> None:
        settler = self._settler_of(attempt, weight_of(transition))
        settler.take_heavy((attempt, transition))

    def take_heavy(self, ending: Ending) -> None:
        """Take how an attempt ends, to be weighed before it is sent."""
        self._endings.append(ending)
        self._has_heavy = True
        self._work.set()

    def hand_back(self, attempt: Attempt) -> None:
        """Give back a job that never started."""
        self.end(attempt, HandedBack())

    # ── what goes out ──

    def loops(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Return what is to run in the background, by name."""
        return {"settler": self.run} | ({LARGE_ONES: self._large.run} if self._large else {})

    async def run(self) -> None:
        """Flush whenever there is something to write, until cancelled."""
        while True:
            # First what is left from a loop that crashed before.
            self._work.clear()
            await self.flush()
            await self._work.wait()

    async def flush(self) -> None:
        """Write all that has been collected; while Redis is away, wait for it."""
        while self._reports.rows or self._endings:
            await self._gather()
            try:
                await self._flush_batch()
            except BrokerUnavailable:
                await self._broker.wait_until_back(self._telemetry)
        self._has_heavy = False
        if self._light is not None:
            self.large_runs.clear()

    async def _gather(self) -> None:
        for _ in range(_GATHER_LOOKS):
            if len(self._endings) >= _GATHERED or not self.is_rushed():
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Remove the marks."""
        with contextlib.suppress(QueueError):
            await self._broker.command("UNLINK", self._mark.key, self._reports.mark_key)
        if self._large is not None:
            await self._large.close()

    async def _flush_batch(self) -> None:
        if self._light is not None:
            reports = self._light._reports  # noqa: SLF001 - of the same class
            await reports.until_written(self.large_runs)
        await self._reports.catch_up()
        await self._catch_up()
        # Both are taken before they are sent: an outcome never overtakes its attempt's reports.
        is_flood = len(self._reports.rows) > len(self._reports.next_ones())
        endings = self._endings_before_flood() if is_flood else self._endings[:]
        if self._reports.rows and not await self._reports.write():
            return
        if endings:
            await self._settle(self._next_of(endings))

    def _next_of(self, endings: list[Ending]) -> list[Ending]:
        """Return what goes together: not too many, nor too large."""
        if not self._has_heavy:
            return endings[: self._most]
        return list(lightest(endings, self._most, _weight))

    def _endings_before_flood(self) -> list[Ending]:
        """Put first what was reported by ended attempts; return the endings that it completes.

        One job that reports without end must not hold up how others end.
        """
        ended = {_run_of(ending) for ending in self._endings}
        rows = self._reports.rows
        rows.sort(key=lambda each: (each.job_id, each.token) not in ended)
        written = len(self._reports.next_ones())
        unwritten = {(each.job_id, each.token) for each in rows[written:]}
        self._endings.sort(key=lambda ending: _run_of(ending) in unwritten)
        return [ending for ending in self._endings if _run_of(ending) not in unwritten]

    async def _settle(self, endings: list[Ending]) -> None:
        settlements = [
            settlement_from(
                (job.id, each.token, transition, each.usage, job.is_plain, job.attempts_started)
            )
            for each, transition in endings
            for job in (each.job,)
        ]
        self._unsure = _Sent(endings, settlements)
        self._mark = self._mark._replace(number=self._mark.number + 1)
        try:
            codes = await settle(
                self._broker,
                self._keys,
                settlements,
                now_ms=await self._broker.now_ms(),
                metrics_points=self._settings.metrics_points,
                retake=True,
                mark=self._mark,
            )
        except BrokerUnavailable as error:
            self._most = max(1, len(endings) // 2)
            if error.moved > LARGE:
                size = sum(map(_weight, endings))
                kind = "outcomes were lost on their way, and are sent again in smaller groups"
                self._seldom.warn(kind, f"{len(endings)} of {size / 1e6:.1f} MB: {error}")
            raise
        except Exception as error:  # noqa: BLE001 - of many rows one may be the cause: see below
            if _NOT_PERMITTED.search(str(error)):
                self._seldom.warn("this user may not write outcomes, which are kept", error)
                await asyncio.sleep(_PERMISSION_DELAY)
                return
            self._most = max(1, len(endings) // 2)
            self._seldom.warn("outcomes were refused, and are sent again in smaller groups", error)
            if len(endings) == 1:
                self._try_again_or_fail(endings[0], error)
            return
        self._unsure = None
        self._most = min(2 * self._most, MOST_ENDINGS)
        del self._endings[: len(endings)]
        self._conclude(endings, codes)

    async def _catch_up(self) -> None:
        """Conclude what was settled by an exchange whose reply was lost, or an error."""
        if self._unsure is None:
            return
        endings, settlements = self._unsure
        codes = await self._known_codes(settlements)
        self._unsure = None
        pairs = zip(endings, codes, strict=True)
        known = [(each, code) for each, code in pairs if code is not None]
        if known:
            gone = {id(ending) for ending, _ in known}
            self._endings = [ending for ending in self._endings if id(ending) not in gone]
            self._conclude([ending for ending, _ in known], [code for _, code in known])

    async def _known_codes(self, settlements: list[Settlement]) -> list[int | None]:
        try:
            return await settled(self._broker, self._mark, settlements)
        except BrokerUnavailable:
            raise
        except QueueError as error:
            self._seldom.warn("what was settled before is unknown", error)
            return [None] * len(settlements)

    def _try_again_or_fail(self, ending: Ending, error: Exception) -> None:
        """Send an outcome again that was refused, some times; then fail the job instead."""
        attempt, _ = ending
        attempt.tries += 1
        if attempt.tries < MOST_TRIES:
            return
        attempt.tries = 0
        self._unsure = None
        self._endings.remove(ending)
        if not self._has_failed_instead(attempt, error):
            self._drop(attempt, error)

    def _has_failed_instead(self, attempt: Attempt, error: Exception) -> bool:
        """Fail the job because its outcome is refused; once only."""
        if attempt.is_refused:
            return False
        attempt.is_refused = True
        attempt.options = DEFAULT_OPTIONS  # its own may be the cause
        self._fail_instead(attempt, f"its outcome cannot be stored: {error}", type(error))
        return True

    def _drop(self, attempt: Attempt, error: Exception) -> None:
        self._held.settled(attempt)
        reason = f"Redis refuses it, and the job stays active until its lock runs out: {error}"
        self._announcer.tell_dropped({reason: [attempt]})

    def _conclude(self, endings: list[Ending], codes: list[int]) -> None:
        """Release what was settled, fail what must fail instead, and tell telemetry."""
        if any(codes):
            endings = self._sort_out(endings, codes)
        self._held.all_settled(endings)
        self._announcer.tell_settled(endings)

    def _sort_out(self, endings: list[Ending], codes: list[int]) -> list[Ending]:
        """Return what was settled, after seeing to the rest."""
        taken: list[Ending] = []
        dropped: dict[str, list[Attempt]] = {}
        for ending, code in zip(endings, codes, strict=True):
            attempt, transition = ending
            if code == SETTLED:
                taken.append(ending)
            elif code in REFUSED_COMPLETION and isinstance(transition, (Complete, AwaitChildren)):
                reason = REFUSED_COMPLETION[code].format(attempt.job.id.decode(errors="replace"))
                self._fail_instead(attempt, reason, JobHasFailedChildren)
            elif isinstance(code, Refusal):
                if not self._has_failed_instead(attempt, code.error):
                    self._drop(attempt, code.error)
            else:
                self._held.settled(attempt)
                dropped.setdefault(NOT_SETTLED.get(code, f"code {code}"), []).append(attempt)
        self._announcer.tell_dropped(dropped)
        return taken

    def _fail_instead(self, attempt: Attempt, reason: str, cause: type[Exception]) -> None:
        failure = Failed(reason, cause=cause.__name__, is_unrecoverable=True)
        self._endings.append((attempt, decided(attempt, failure, self._retention, self._rules)))
        self._work.set()


def _weight(ending: Ending) -> int:
    return weight_of(ending[1])


def _run_of(ending: Ending) -> tuple[bytes, bytes]:
    return ending[0].job.id, ending[0].token
