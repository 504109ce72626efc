"""Collects what children report and how attempts end, and writes it to Redis in batches.

pool ──report──► reports ─┐
     ──outcome─► endings ─┴─► flush: report script, then settle script ──► Redis
                    ▲           │ Redis away: everything is kept and sent again
                    └───────────┘
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from sandboxq.broker.report import Report, report
from sandboxq.broker.settle import Settlement, settle
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.job import Usage, UsageTotals, usage_from_measure
from sandboxq.outcome import (
    AwaitChildren,
    Complete,
    Completed,
    Fail,
    Failed,
    HandBack,
    HandedBack,
    LimitRate,
    Postpone,
    Retention,
    RetryLater,
    RetryNow,
    RetryRules,
    complete,
    decide,
)
from sandboxq.telemetry import (
    NOTHING_USED,
    AttemptFailed,
    JobCompleted,
    JobMoved,
    JobProgressed,
    JobsSettled,
    OutcomesDropped,
)
from sandboxq.worker.attempt import AttemptState
from sandboxq.worker.attempt_span import end_span

if TYPE_CHECKING:
    from sandboxq.outcome import Outcome, Transition
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.context import WorkerContext

    # An attempt with the transition that its outcome led to.
    Ending = tuple[Attempt, Transition]

_log = logging.getLogger("sandboxq.worker")

# A flood of log rows is written in round trips of so many, so that none takes too long.
MOST_REPORTS = 1000
# While more than this waits for Redis, children that report are not read: their code waits.
MOST_UNWRITTEN = 20_000
MOST_UNWRITTEN_BYTES = 32 << 20
# What the settle script answers (bullmq-wire.md 3.1).
SETTLED = 0
PENDING_CHILDREN = -4
FAILED_CHILDREN = -9
_REASONS = {
    -1: "the job was removed meanwhile",
    -2: "it is settled already, or its lock had expired",
    -3: "it was no longer active",
    -6: "another worker holds its lock",
}
_REFUSED_COMPLETION = {
    PENDING_CHILDREN: "Job {} has pending dependencies. moveToFinished",
    FAILED_CHILDREN: (
        "Cannot complete job {} because it has at least one failed child. moveToFinished"
    ),
}


# Where a job is afterwards, in BullMQ's words.
_STATES = {
    Complete: "completed",
    Fail: "failed",
    RetryNow: "retried",
    RetryLater: "delayed",
    Postpone: "delayed",
    HandBack: "waiting",
    LimitRate: "waiting",
    AwaitChildren: "waiting-children",
}


class Settler:
    """Keeps every outcome until Redis has taken it or the lock is provably gone."""

    def __init__(self, context: WorkerContext) -> None:
        """Settle the jobs that are held."""
        self._broker = context.broker
        self._keys = context.keys
        self._settings = context.settings
        self._held = context.held
        self._telemetry = context.telemetry
        settings = context.settings
        self._retention = Retention(settings.remove_on_complete, settings.remove_on_fail)
        self._rules = RetryRules(
            settings.backoff_strategies, settings.max_started_attempts, settings.max_crashes
        )
        self._reports: list[Report] = []
        self._unwritten_bytes = 0
        self._endings: list[Ending] = []
        self._work = asyncio.Event()

    def report(self, attempt: Attempt, kind: str, payload: bytes) -> None:
        """Take progress, a log row or new data of a running attempt."""
        if attempt.state is AttemptState.RUNNING:
            keep_logs = attempt.options.keep_logs or 0
            self._unwritten_bytes += len(payload)
            self._reports.append(Report(attempt.job.id, attempt.token, kind, payload, keep_logs))
            if kind == "progress" and self._telemetry.wants(JobProgressed):
                self._telemetry.emit(
                    JobProgressed(attempt.job.id.decode(errors="replace"), payload)
                )
            self._work.set()

    @property
    def is_flooded(self) -> bool:
        """Whether more reports wait for Redis than should be held."""
        is_large = self._unwritten_bytes > MOST_UNWRITTEN_BYTES
        return is_large or len(self._reports) > MOST_UNWRITTEN

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Take the outcome of an attempt and decide what follows from it."""
        attempt.state = AttemptState.ENDED
        # The call knows its attempt: left as a ring, both would wait for the garbage collector.
        attempt.call = None
        transition: Transition
        if isinstance(outcome, Completed):  # nearly always, so in few steps
            transition = complete(outcome, attempt.options, self._retention)
        else:
            transition = self._decided(attempt, outcome)
        self._endings.append((attempt, transition))
        self._work.set()
        if attempt.span is not None:
            end_span(attempt, transition)

    def _decided(self, attempt: Attempt, outcome: Outcome) -> Transition:
        return decide(
            outcome,
            attempt.options,
            attempts_made=attempt.job.attempts_made,
            attempts_started=attempt.job.attempts_started,
            crashes=attempt.job.crashes,
            retention=self._retention,
            rules=self._rules,
        )

    def hand_back(self, attempt: Attempt) -> None:
        """Give back a job that never started."""
        self.end(attempt, HandedBack())

    async def run(self) -> None:
        """Flush whenever there is something to write, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write all that has been collected; while Redis is away, wait for it."""
        while self._reports or self._endings:
            try:
                await self._flush_batch()
            except BrokerUnavailable:
                await self._broker.wait_until_back(self._telemetry)

    async def _flush_batch(self) -> None:
        # Both are taken before the first await: an outcome never overtakes its attempt's reports.
        is_flood = len(self._reports) > MOST_REPORTS
        endings = self._endings_before_flood() if is_flood else self._endings[:]
        reports = self._reports[:MOST_REPORTS]
        if reports:
            await self._write_reports(reports)
        if endings:
            codes = await self._settle(endings)
            del self._endings[: len(endings)]
            self._conclude(endings, codes)

    def _endings_before_flood(self) -> list[Ending]:
        """Put first what was reported by ended attempts; return the endings that it completes.

        One job that reports without end must not hold up how others end.
        """
        ended = {_run_of(ending) for ending in self._endings}
        self._reports.sort(key=lambda each: (each.job_id, each.token) not in ended)
        unwritten = {(each.job_id, each.token) for each in self._reports[MOST_REPORTS:]}
        self._endings.sort(key=lambda ending: _run_of(ending) in unwritten)
        return [ending for ending in self._endings if _run_of(ending) not in unwritten]

    async def _write_reports(self, reports: list[Report]) -> None:
        try:
            await report(self._broker, self._keys, reports)
        except BrokerUnavailable:
            raise
        except QueueError:
            # Progress and log rows are not worth an outcome: said, and gone.
            _log.exception("Redis refused %d progress and log rows", len(reports))
        del self._reports[: len(reports)]
        self._unwritten_bytes -= sum(len(each.payload) for each in reports)

    async def _settle(self, endings: list[Ending]) -> list[int]:
        settlements = [
            Settlement(
                attempt.job.id, attempt.token, transition, attempt.usage, attempt.job.is_plain
            )
            for attempt, transition in endings
        ]
        try:
            return await self._send(settlements)
        except BrokerUnavailable:
            raise
        except QueueError:
            _log.exception("Redis refused a batch of %d outcomes; trying one by one", len(endings))
        return [await self._settle_alone(settlement) for settlement in settlements]

    async def _settle_alone(self, settlement: Settlement) -> int:
        """Settle one job; when Redis refuses it, leave the job to the stalled check."""
        try:
            return (await self._send([settlement]))[0]
        except BrokerUnavailable:
            raise
        except QueueError:
            _log.exception("job %s cannot be settled", settlement.job_id.decode(errors="replace"))
            return -3

    async def _send(self, settlements: list[Settlement]) -> list[int]:
        return await settle(
            self._broker,
            self._keys,
            settlements,
            now_ms=await self._broker.now_ms(),
            metrics_points=self._settings.metrics_points,
            retake=True,
        )

    def _conclude(self, endings: list[Ending], codes: list[int]) -> None:
        """Forget what was settled, take up again what must fail, and tell who listens."""
        counts = JobsSettled()
        dropped: dict[int, list[str]] = {}
        tells_moves = self._telemetry.wants(JobMoved)
        tells_completions = self._telemetry.wants(JobCompleted)
        for (attempt, transition), code in zip(endings, codes, strict=True):
            if code != SETTLED:
                if code in _REFUSED_COMPLETION and isinstance(
                    transition, (Complete, AwaitChildren)
                ):
                    self._fail_instead(attempt, code)
                    continue
                dropped.setdefault(code, []).append(attempt.job.id.decode(errors="replace"))
                self._held.settled(attempt)
                continue
            self._held.settled(attempt)
            if isinstance(transition, Complete):
                counts.completed += 1
                if tells_completions:
                    self._tell_completion(attempt, transition.value)
            else:
                self._count(attempt, transition, counts)
            if tells_moves:
                self._tell_move(attempt, transition)
        counts.usage = _total(endings, counts.crashes)
        self._telemetry.emit(counts)
        for code, job_ids in dropped.items():
            self._telemetry.emit(OutcomesDropped(job_ids, _REASONS.get(code, f"code {code}")))

    def _fail_instead(self, attempt: Attempt, code: int) -> None:
        reason = _REFUSED_COMPLETION[code].format(attempt.job.id.decode(errors="replace"))
        failure = Failed(reason, cause="JobHasFailedChildren", is_unrecoverable=True)
        self.end(attempt, failure)

    def _count(self, attempt: Attempt, transition: Transition, counts: JobsSettled) -> None:
        match transition:
            case HandBack(is_crash=is_crash):
                counts.handed_back += 1
                counts.crashes += is_crash
            case Postpone() | AwaitChildren() | LimitRate():
                counts.moved += 1
            case Fail(failure):
                counts.failed += 1
                counts.crashes += failure.is_crash
                self._tell_failure(attempt, failure, "for good")
            case RetryNow(failure):
                counts.retried += 1
                counts.crashes += failure.is_crash
                self._tell_failure(attempt, failure, "and tries again now")
            case RetryLater(failure, _, delay_ms):
                counts.retried += 1
                counts.crashes += failure.is_crash
                self._tell_failure(attempt, failure, f"and tries again in {delay_ms / 1000:g} s")

    def _tell_move(self, attempt: Attempt, transition: Transition) -> None:
        job = attempt.job
        job_id, name = job.id.decode(errors="replace"), job.name.decode(errors="replace")
        state = _STATES[type(transition)]
        self._telemetry.emit(JobMoved(job_id, name, state, attempt.seconds))

    def _tell_completion(self, attempt: Attempt, value: bytes) -> None:
        job = attempt.job
        name = job.name.decode(errors="replace")
        self._telemetry.emit(
            JobCompleted(
                job.id.decode(errors="replace"), name, value, attempt.seconds, _usage_of(attempt)
            )
        )

    def _tell_failure(self, attempt: Attempt, failure: Failed, next_step: str) -> None:
        job = attempt.job
        event = AttemptFailed(
            job.id.decode(errors="replace"),
            job.name.decode(errors="replace"),
            failure.reason,
            next_step,
            attempt.seconds,
            failure.cause,
            _usage_of(attempt),
        )
        self._telemetry.emit(event)


def _run_of(ending: Ending) -> tuple[bytes, bytes]:
    attempt, _ = ending
    return attempt.job.id, attempt.token


def _usage_of(attempt: Attempt) -> Usage | None:
    return None if attempt.usage is None else usage_from_measure(attempt.usage)


def _total(endings: list[Ending], crashes: int) -> UsageTotals:
    """Return what the attempts of a batch have used, those that were measured."""
    measures = [used for attempt, _ in endings if (used := attempt.usage) is not None]
    if not measures:
        return NOTHING_USED
    walls, users, systems, peaks = zip(*measures, strict=True)
    return UsageTotals(
        len(measures), crashes, sum(walls) / 1e6, sum(users) / 1e6, sum(systems) / 1e6, max(peaks)
    )
