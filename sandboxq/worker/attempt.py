"""One run of a job: what was claimed, under which token, and what became of it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from sandboxq.child.frames import encode_call, encode_first_call
from sandboxq.job import JobOptions
from sandboxq.pool.call import CallState
from sandboxq.pool.pool import Call

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sandboxq.broker.claim import ClaimedJob
    from sandboxq.worker.attempt_span import AttemptSpan


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

DEFAULT_OPTIONS = JobOptions()


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
