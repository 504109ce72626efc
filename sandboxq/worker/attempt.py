"""One run of a job: what was claimed, under which token, what became of it, and its span.

The span of one attempt: from when it is given to the pool until its outcome is known.
"""

from __future__ import annotations

import enum
import json
import logging
from typing import TYPE_CHECKING

from sandboxq.broker.codec import json_value
from sandboxq.child.frames import encode_call, encode_first_call
from sandboxq.model.job import JobOptions
from sandboxq.model.outcome import (
    Complete,
    Fail,
    HandBack,
    RetryLater,
    RetryNow,
)
from sandboxq.pool.calls import CallState
from sandboxq.pool.pool import Call

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandboxq.broker.commands.claim import ClaimedJob
    from sandboxq.model.outcome import Failed, Transition
    from sandboxq.observe.tracing import ProcessSpan, Tracing


DEFAULT_OPTIONS = JobOptions()
_log = logging.getLogger("sandboxq.worker")


class AttemptState(enum.Enum):
    """Where an attempt is on its way through the worker."""

    CLAIMED = "claimed"  # held, not in the pool yet: perhaps some of it is still to be read
    RUNNING = "running"  # in the pool: waiting for a child, or in one
    ANSWERED = "answered"  # its child has returned arrays, which are on their way to Redis
    GIVEN_UP = "given up"  # the worker stops: its child is killed and the job goes back
    ENDED = "ended"  # its outcome waits for Redis to take it
    LOST = "lost"  # somebody else owns the job: whatever its child still says is dropped


# For where each job passes: to ask the class for a member takes ten times as long as a global.
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
    job = attempt.job
    opts = job.opts if attempt.span is None else attempt.span.opts_for_child(job.opts)
    if job.is_plain:
        payload = encode_first_call(
            job_id=job.id,
            name=job.name,
            data=job.data,
            opts=opts,
            timestamp=job.timestamp,
            token=attempt.token,
            priority=job.priority,
            delay=job.delay,
            processed_on=job.processed_on,
        )
    else:
        payload = _payload_of(attempt, opts)
    own = attempt.options.timeout
    if own is not None and own > 0:
        timeout = own
    attempt.call = call = Call(job.id, payload, attempt, timeout=timeout, grace=grace)
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
    """A span, and how the attempt's child learns of it."""

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


def end_span(attempt: Attempt, transition: Transition | None = None) -> None:
    """End it, by what is going to be written; None: the job belongs to somebody else by now."""
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
