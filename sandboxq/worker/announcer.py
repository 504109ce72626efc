"""Tells whoever listens how attempts have ended, once Redis has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq.model.job import Usage, UsageTotals, usage_from_measure
from sandboxq.model.outcome import (
    AwaitChildren,
    Complete,
    Fail,
    HandBack,
    LimitRate,
    Postpone,
    RetryLater,
    RetryNow,
)
from sandboxq.observe.telemetry import (
    NOTHING_USED,
    AttemptFailed,
    JobCompleted,
    JobMoved,
    JobsSettled,
    OutcomesDropped,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandboxq.model.outcome import Failed, Transition
    from sandboxq.observe.telemetry import Telemetry
    from sandboxq.worker.attempt import Attempt

    # An attempt with the transition that its outcome led to.
    Ending = tuple[Attempt, Transition]

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


class Announcer:
    """Turns settled attempts into events."""

    def __init__(self, telemetry: Telemetry, queue: str) -> None:
        """Tell those who listen to ``telemetry`` of a queue's jobs."""
        self._telemetry = telemetry
        self._queue = queue

    def tell_settled(self, endings: Sequence[Ending]) -> None:
        """Tell what Redis has taken, together."""
        counts = JobsSettled()
        tells_moves = self._telemetry.wants(JobMoved)
        tells_completions = self._telemetry.wants(JobCompleted)
        for attempt, transition in endings:
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

    def tell_dropped(self, dropped: Mapping[str, Sequence[Attempt]]) -> None:
        """Tell what Redis has not taken, by the reason."""
        for reason, attempts in dropped.items():
            ids = [attempt.job.id.decode(errors="replace") for attempt in attempts]
            self._telemetry.emit(OutcomesDropped(ids, reason))

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
            self._queue,
            job.attempts_made + 1,
            max(attempt.options.attempts, 1),
            failure.stack,
        )
        self._telemetry.emit(event)


def _usage_of(attempt: Attempt) -> Usage | None:
    return None if attempt.usage is None else usage_from_measure(attempt.usage)


def _total(endings: Sequence[Ending], crashes: int) -> UsageTotals:
    """Return what the attempts of a batch have used, those that were measured."""
    measures = [used for attempt, _ in endings if (used := attempt.usage) is not None]
    if not measures:
        return NOTHING_USED
    walls, users, systems, peaks = zip(*measures, strict=True)
    return UsageTotals(
        len(measures), crashes, sum(walls) / 1e6, sum(users) / 1e6, sum(systems) / 1e6, max(peaks)
    )
