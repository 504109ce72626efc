"""One run of a job: what was claimed, under which token, how it ended, and its span.

The span is from when the attempt is given to the pool until its outcome is known. Listeners hear of
the end once Redis has it.
"""

from __future__ import annotations

import enum
import json
import logging
from dataclasses import replace
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING

from sandboxq.broker.codec import json_value
from sandboxq.child.frames import encode_call, encode_first_call
from sandboxq.model.job import JobOptions, Usage, UsageTotals, usage_from_measure
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
    FOR_GOOD,
    NOTHING_USED,
    AttemptFailed,
    AttemptsMeasured,
    JobCompleted,
    JobMoved,
    JobsSettled,
    OutcomesDropped,
)
from sandboxq.pool.calls import CallState
from sandboxq.pool.pool import Call

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sandboxq.broker.commands.claim import ClaimedJob
    from sandboxq.model.outcome import Failed, Transition
    from sandboxq.observe.telemetry import Telemetry
    from sandboxq.observe.tracing import ProcessSpan, Tracing

    Ending = tuple["Attempt", Transition]

DEFAULT_OPTIONS = JobOptions()
_COMPLETIONS = {Complete}
# For all rows of a batch, without a step of Python for each.
_attempt, _transition, _usage = itemgetter(0), itemgetter(1), attrgetter("usage")
_log = logging.getLogger("sandboxq.worker")
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
# What became of attempts that ran to their end: what was handed back says nothing of the job.
_RAN = (Complete, Fail, RetryNow, RetryLater)
# In larger batches only a sample is measured: those are jobs of microseconds, much alike.
MOST_MEASURED = 8


class AttemptState(enum.Enum):
    """The states of an attempt in the worker."""

    CLAIMED = "claimed"  # held, not in the pool yet: perhaps some of it is still to be read
    RUNNING = "running"  # in the pool: waiting for a child, or in one
    ANSWERED = "answered"  # its child has returned arrays, which are on their way to Redis
    GIVEN_UP = "given up"  # the worker stops: its child is killed and the job goes back
    ENDED = "ended"  # its outcome waits for Redis to take it
    LOST = "lost"  # somebody else owns the job: whatever its child still says is dropped


# For the hot path: a member of the class takes ten times as long to read as a global.
CLAIMED, RUNNING, ANSWERED, GIVEN_UP, ENDED, LOST = AttemptState


class Attempt:
    """A claimed job on its way through the worker.

    ``options`` are the defaults until the job's own have been read; ``tries`` is how often its
    outcome could not be sent, ``is_refused`` whether Redis has refused it.
    """

    __slots__ = (
        "__weakref__", "call", "is_refused", "job", "options", "seconds", "span", "state", "token",
        "tries", "usage",
    )  # fmt: skip

    def __init__(
        self, job: ClaimedJob, token: bytes, options: JobOptions = DEFAULT_OPTIONS
    ) -> None:
        """Hold what the claim returned; the call is made when the job is given to the pool."""
        self.job = job
        self.token = token
        self.options = options
        self.state = CLAIMED
        self.seconds = 0.0
        self.usage: tuple[int, int, int, int] | None = None
        self.call: Call | None = None
        self.span: AttemptSpan | None = None
        self.tries = 0
        self.is_refused = False


def not_taken(calls: Iterable[Call]) -> list[Attempt]:
    """Return the attempts of calls that a pool did not take when it raised."""
    refused: list[Attempt] = [call.context for call in calls if call.state is CallState.NEW]
    return [attempt for attempt in refused if attempt.state is AttemptState.RUNNING]


def call_from_attempt(attempt: Attempt, *, timeout: float | None, grace: float) -> Call:
    """Return the call that runs this attempt; the job's data stays the bytes that Redis gave.

    ``timeout`` (seconds) is for jobs that have none of their own.
    """
    # Unpacked at once: of a named tuple each field that is asked for takes longer.
    job_id, name, data, opts, timestamp, priority, delay, is_plain, processed_on = attempt.job[:9]
    if attempt.span is not None:
        opts = attempt.span.opts_for_child(opts)
    if is_plain:
        payload = encode_first_call(
            job_id, name, data, opts, timestamp, attempt.token, priority, delay, processed_on
        )
    else:
        payload = _payload_of(attempt, opts)
    own = attempt.options.timeout
    if own is not None and own > 0:
        timeout = own
    attempt.call = call = Call(job_id, payload, attempt, timeout=timeout, grace=grace)
    return call


def _payload_of(attempt: Attempt, opts: bytes) -> bytes:
    job = attempt.job
    return encode_call(
        job_id=job.id,
        name=job.name,
        data=job.data,
        opts=opts,
        timestamp=job.timestamp,
        parent=job.parent,
        progress=job.progress,
        token=attempt.token,
        priority=job.priority,
        delay=job.delay,
        scheduler_id=job.scheduler_id,
        deduplication_id=job.deduplication_id,
        failed_reason=job.failed_reason,
        attempts_made=job.attempts_made,
        attempts_started=job.attempts_started,
        stalled_counter=job.stalled_counter,
        processed_on=job.processed_on,
    )


class AttemptSpan:
    """A span, and its context for the attempt's child."""

    __slots__ = ("span",)

    def __init__(self, span: ProcessSpan) -> None:
        """Wrap the span."""
        self.span = span

    def opts_for_child(self, opts: bytes) -> bytes:
        """Return the job's ``opts`` with this span's context in the place of the producer's."""
        if self.span.metadata is None:
            return opts
        members = json_value(opts)
        members["tm"] = self.span.metadata
        return json.dumps(members).encode()


def begin_span(attempt: Attempt, tracing: Tracing, queue: str, worker: str) -> None:
    """Begin the span of an attempt whose options could be read; without one the job runs too."""
    job = attempt.job
    try:
        span = tracing.start_process(
            queue,
            job_id=job.id.decode(errors="replace"),
            job_name=job.name.decode(errors="replace"),
            worker=worker,
            metadata=attempt.options.trace_context,
        )
    except Exception:  # noqa: BLE001 - whose spans these are must not end a job
        _log.exception("no span for job %s", job.id.decode(errors="replace"))
    else:
        attempt.span = AttemptSpan(span)
        # Who made no span of its own is logged under this one.
        attempt.options = replace(attempt.options, trace_context=span.metadata)


def end_span(attempt: Attempt, transition: Transition | None = None) -> None:
    """End it, by the transition to be written; None: another worker has the job by now."""
    held, attempt.span = attempt.span, None
    if held is None:
        return
    try:
        _end(held, attempt.job.attempts_made, transition)
    except Exception:  # noqa: BLE001 - as above
        _log.exception("the span of job %s was lost", attempt.job.id.decode(errors="replace"))


def _end(held: AttemptSpan, made: int, transition: Transition | None) -> None:
    match transition:
        case Complete():
            held.span.end(attempts_made=made + 1, event="job completed", failure=None)
        case Fail(failure):
            _end_failed(held.span, made + 1, "job failed", failure)
        case RetryNow(failure) | RetryLater(failure):
            _end_failed(held.span, made + 1, "job retried", failure)
        case HandBack():
            held.span.end(attempts_made=made, event="job handed back", failure=None)
        case None:
            held.span.end(attempts_made=made, event="job lost", failure=None)
        case _:
            held.span.end(attempts_made=made, event="job moved", failure=None)


def _end_failed(span: ProcessSpan, made: int, event: str, failure: Failed) -> None:
    described = {
        "reason": failure.reason,
        "type": failure.cause or "Error",
        "stack": failure.stack,
    }
    span.end(attempts_made=made, event=event, failure=described)


class Announcer:
    """Sends telemetry of settled attempts."""

    def __init__(self, telemetry: Telemetry, queue: str) -> None:
        """Send events of a queue's jobs to ``telemetry``."""
        self._telemetry = telemetry
        self._queue = queue

    def tell_settled(self, endings: Sequence[Ending]) -> None:
        """Tell which outcomes were written, as one batch."""
        counts = JobsSettled()
        others: Sequence[Ending] = ()
        if set(map(type, map(_transition, endings))) != _COMPLETIONS:
            others = [ending for ending in endings if not isinstance(ending[1], Complete)]
        counts.completed = len(endings) - len(others)
        for attempt, transition in others:
            self._count(attempt, transition, counts)
        if self._telemetry.wants(JobMoved) or self._telemetry.wants(JobCompleted):
            self._tell_each(endings)
        if self._telemetry.wants(AttemptsMeasured):
            ran = [each for each in endings if type(each[1]) in _RAN] if others else endings
            if ran:
                self._telemetry.emit(_measures(ran))
        counts.usage = _total(endings, counts.crashes)
        self._telemetry.emit(counts)

    def _tell_each(self, endings: Sequence[Ending]) -> None:
        for attempt, transition in endings:
            if isinstance(transition, Complete) and self._telemetry.wants(JobCompleted):
                self._tell_completion(attempt, transition.value)
            if self._telemetry.wants(JobMoved):
                self._tell_move(attempt, transition)

    def tell_dropped(self, dropped: Mapping[str, Sequence[Attempt]]) -> None:
        """Tell which outcomes Redis did not take, by the reason."""
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
                self._tell_failure(attempt, failure, FOR_GOOD)
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
            # A job that ran again by `retry` has one attempt more than its options say.
            max(attempt.options.attempts, job.attempts_made + 1),
            failure.stack,
            attempt.options.trace_context or "",
        )
        self._telemetry.emit(event)


def _usage_of(attempt: Attempt) -> Usage | None:
    return None if attempt.usage is None else usage_from_measure(attempt.usage)


def _measures(endings: Sequence[Ending]) -> AttemptsMeasured:
    """Return what attempts took; of many at once, what some of them did."""
    waits, seconds, usages = [], [], []
    for attempt, _ in endings[:: 1 + (len(endings) - 1) // MOST_MEASURED]:
        job, used = attempt.job, attempt.usage
        seconds.append(attempt.seconds)
        if used is not None:
            usages.append(used)
        if job.attempts_started == 1:  # of a retry nobody knows since when it waited
            try:
                due = int(job.timestamp) + int(job.delay or 0)
            except ValueError:  # text that is no number
                continue
            waits.append(max(0, job.processed_on - due))
    return AttemptsMeasured(len(endings), waits, seconds, usages)


def _total(endings: Sequence[Ending], crashes: int) -> UsageTotals:
    """Return what the attempts of a batch have used, those that were measured."""
    measures = list(filter(None, map(_usage, map(_attempt, endings))))
    if not measures:
        return NOTHING_USED
    walls, users, systems, peaks = zip(*measures, strict=True)
    return UsageTotals(
        len(measures), crashes, sum(walls) / 1e6, sum(users) / 1e6, sum(systems) / 1e6, max(peaks)
    )
