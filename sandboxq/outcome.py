"""How an attempt ended, and what follows from it: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from sandboxq.backoff import delay_ms
from sandboxq.job import KEEP_ALL, JobOptions, Keep

if TYPE_CHECKING:
    from collections.abc import Mapping

# ── outcomes: what the pool reports ─────────────────────────────────────────


@dataclass(slots=True)
class Completed:
    """The processor returned; ``value`` is its JSON text in UTF-8, as the child wrote it."""

    value: bytes


@dataclass(slots=True)
class Failed:
    """The processor raised, or its child ended.

    ``cause`` names the type of error (``ValueError``, ``JobCrashed``); ``stack`` is the text of the
    trace; ``facts`` are what is known of a death, stored with the job.
    """

    reason: str
    stack: str = ""
    cause: str = ""
    is_unrecoverable: bool = False
    facts: Mapping[str, str] | None = None


@dataclass(slots=True)
class HandedBack:
    """The attempt was given up: the job goes back, and no attempt counts."""

    was_started: bool = False


Outcome = Completed | Failed | HandedBack

# ── transitions: what the settler writes ────────────────────────────────────


@dataclass(slots=True)
class Complete:
    """Move the job to ``completed`` with this JSON value."""

    value: bytes
    keep: Keep


@dataclass(slots=True)
class Fail:
    """Move the job to ``failed``."""

    failure: Failed
    keep: Keep
    stack_trace_limit: int | None
    attempts: int


@dataclass(slots=True)
class RetryNow:
    """Put the job back into its queue; the attempt counts."""

    failure: Failed
    stack_trace_limit: int | None
    lifo: bool


@dataclass(slots=True)
class RetryLater:
    """Put the job into ``delayed`` for ``delay_ms``; the attempt counts."""

    failure: Failed
    stack_trace_limit: int | None
    delay_ms: int


@dataclass(slots=True)
class HandBack:
    """Put the job back to the front of its queue; the attempt does not count."""

    was_started: bool = False


Transition = Complete | Fail | RetryNow | RetryLater | HandBack


@dataclass(frozen=True, slots=True)
class Retention:
    """What a worker keeps of finished jobs that do not say it themselves."""

    completed: Keep = KEEP_ALL
    failed: Keep = KEEP_ALL


def decide(
    outcome: Outcome, options: JobOptions, *, attempts_made: int, retention: Retention
) -> Transition:
    """Return what to do with a job whose attempt ended so (bullmq-wire.md 2.3).

    ``attempts_made`` is the number of attempts that ended before this one.
    """
    match outcome:
        case Completed(value):
            return Complete(value, options.remove_on_complete or retention.completed)
        case Failed():
            return _after_failure(outcome, options, attempts_made + 1, retention)
        case HandedBack(was_started):
            return HandBack(was_started)
        case _:
            assert_never(outcome)


def _after_failure(
    failure: Failed, options: JobOptions, failures: int, retention: Retention
) -> Transition:
    limit = options.stack_trace_limit
    wait_ms = delay_ms(options.backoff, failures)
    is_final = failure.is_unrecoverable or failures >= options.attempts or wait_ms is None
    if is_final:
        return Fail(failure, options.remove_on_fail or retention.failed, limit, options.attempts)
    if wait_ms:
        return RetryLater(failure, limit, wait_ms)
    return RetryNow(failure, limit, options.lifo)
