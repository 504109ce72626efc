"""How an attempt ended, and what follows from it: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, assert_never

from sandboxq.model.backoff import BackoffStrategy, wait_after
from sandboxq.model.job import KEEP_ALL, JobOptions, Keep

if TYPE_CHECKING:
    from collections.abc import Mapping

# How many children one job may crash: a first crash may be chance, a third is the job.
MAX_CRASHES = 3
# How often a job may be beside one that crashes their child before it fails: it may be to blame.
MAX_DEATHS_BESIDE = 10
# More would not be read, and a job may be allowed any number of crashes.
_HISTORY_LIMIT = 10


@dataclass(frozen=True, slots=True)
class Crashes:
    """How many children a job has crashed, and how the last of them ended.

    ``beside`` counts children that ended under it because of another job.
    """

    count: int = 0
    history: tuple[str, ...] = ()
    beside: int = 0

    def with_one(self, name: str) -> Crashes:
        """Return this and one more."""
        history = (*self.history, name)[-_HISTORY_LIMIT:]
        return replace(self, count=self.count + 1, history=history)

    def facts(self) -> dict[str, str]:
        """Return what is stored with the job."""
        facts = {"crashes": str(self.count), "history": ", ".join(self.history)}
        return facts | {"beside": str(self.beside)} if self.beside else facts

    def __str__(self) -> str:
        """Return it as text for a failed reason."""
        times = "once" if self.count == 1 else f"{self.count} times"
        return f"the job has crashed {times} ({', '.join(self.history)})"


def crashes_from_facts(count: int, history: str, beside: int = 0) -> Crashes:
    """Return what ``Crashes.facts`` has stored."""
    return Crashes(count, tuple(history.split(", ")) if history else (), beside)


# ── outcomes: what the pool reports ─────────────────────────────────────────


@dataclass(slots=True)
class Completed:
    """The processor returned; ``value`` is its JSON text in UTF-8, as the child wrote it.

    ``reference`` is where its arrays and bytes stand in Redis, if it has any
    (broker/commands/binary.py).
    """

    value: bytes
    reference: str = ""


@dataclass(slots=True)
class Failed:
    """The processor raised, or its child ended.

    ``cause`` names the type of error (``ValueError``, ``JobCrashed``); ``stack`` is the text of the
    trace; ``facts`` are those of a death, stored with the job; ``is_crash``: the job ended its
    child, which is counted apart from attempts.
    """

    reason: str
    stack: str = ""
    cause: str = ""
    is_unrecoverable: bool = False
    facts: Mapping[str, str] | None = None
    is_crash: bool = False


@dataclass(slots=True)
class Interrupted:
    """The child ended for a cause that lies outside it: a crash, but no attempt, counts."""

    failure: Failed


@dataclass(slots=True)
class HandedBack:
    """The attempt was given up: the job goes back, and no attempt counts.

    ``is_neighbour``: another job has ended the child that both were in.
    """

    was_started: bool = False
    is_neighbour: bool = False


@dataclass(slots=True)
class Postponed:
    """The processor asked to run again in ``delay_ms``; no attempt counts."""

    delay_ms: int


@dataclass(slots=True)
class ChildrenAwaited:
    """The processor asked to run again when the job's children are done; no attempt counts."""


@dataclass(slots=True)
class RateLimited:
    """The processor asked that the queue rest for ``limit_ms``; no attempt counts."""

    limit_ms: int


Outcome = Completed | Failed | Interrupted | HandedBack | Postponed | ChildrenAwaited | RateLimited

# ── transitions: what the settler writes ────────────────────────────────────


@dataclass(slots=True)
class Complete:
    """Move the job to ``completed`` with this JSON value, and what it refers to."""

    value: bytes
    keep: Keep
    reference: str = ""


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
    """Put the job back to the front of its queue; the attempt does not count.

    ``facts`` are stored with the job; ``is_crash``: it may have ended its child.
    """

    was_started: bool = False
    facts: Mapping[str, str] | None = None
    is_crash: bool = False


@dataclass(slots=True)
class Postpone:
    """Put the job into ``delayed`` for ``delay_ms``; the attempt does not count."""

    delay_ms: int


@dataclass(slots=True)
class AwaitChildren:
    """Put the job where it waits for its children; the attempt does not count.

    Where no child is left to wait for, it goes to the front of its queue, as the last child would
    have put it there.
    """


@dataclass(slots=True)
class LimitRate:
    """Let nobody claim from the queue for ``limit_ms``, and hand the job back."""

    limit_ms: int


Transition = (
    Complete | Fail | RetryNow | RetryLater | HandBack | Postpone | AwaitChildren | LimitRate
)


@dataclass(frozen=True, slots=True)
class Retention:
    """How many finished jobs a worker keeps, for jobs without options of their own."""

    completed: Keep = KEEP_ALL
    failed: Keep = KEEP_ALL


@dataclass(frozen=True, slots=True)
class RetryRules:
    """What a worker adds to its jobs' own rules: back-off strategies, limits of starts and crashes.

    A job is not tried again once it was started ``max_started_attempts`` times, or has ended
    ``max_crashes`` children.
    """

    strategies: Mapping[str, BackoffStrategy] = field(default_factory=dict)
    max_started_attempts: int | None = None
    max_crashes: int = MAX_CRASHES


NO_RULES = RetryRules()
NO_CRASHES = Crashes()


def decide(
    outcome: Outcome,
    options: JobOptions,
    *,
    attempts_made: int,
    attempts_started: int = 0,
    crashes: Crashes = NO_CRASHES,
    retention: Retention,
    rules: RetryRules = NO_RULES,
) -> Transition:
    """Return what to do with a job whose attempt ended so (protocol.md 2.3).

    ``attempts_made`` is the number of attempts that ended before this one; ``attempts_started`` the
    number of those that began, this one included; ``crashes`` are those of earlier attempts.
    """
    if isinstance(outcome, Completed):  # nearly every attempt, so first, and without a pattern
        return complete(outcome, options, retention)
    match outcome:
        case Failed() | Interrupted():
            failure = outcome if isinstance(outcome, Failed) else outcome.failure
            if failure.is_crash:
                failure = _count_crash(failure, crashes, rules)
            if isinstance(outcome, Interrupted) and not failure.is_unrecoverable:
                return HandBack(was_started=True, facts=failure.facts, is_crash=failure.is_crash)
            if _may_retry(failure, options, attempts_made + 1, attempts_started, rules):
                return _retry(failure, options, attempts_made + 1, retention, rules)
            return _fail(failure, options, retention)
        case HandedBack():
            return _hand_back(outcome, options, crashes, retention)
        case _:
            return _move(outcome)


def complete(outcome: Completed, options: JobOptions, retention: Retention) -> Complete:
    """Return what ``decide`` does with a job whose processor returned."""
    keep = options.remove_on_complete or retention.completed
    return Complete(outcome.value, keep, outcome.reference)


def _hand_back(
    outcome: HandedBack, options: JobOptions, before: Crashes, retention: Retention
) -> Transition:
    """Put a job back, unless others beside it have ended its child again and again."""
    if not outcome.is_neighbour:
        return HandBack(outcome.was_started)
    crashes = replace(before, beside=before.beside + 1)
    if crashes.beside < MAX_DEATHS_BESIDE:
        return HandBack(was_started=True, facts=crashes.facts())
    reason = (
        f"the child that ran this job ended {crashes.beside} times, each time as it seemed because "
        "of another job in it: the job is not tried again"
    )
    return _fail(Failed(reason, cause="JobCrashed", facts=crashes.facts()), options, retention)


def _count_crash(failure: Failed, before: Crashes, rules: RetryRules) -> Failed:
    """Return the failure with the job's crashes in its facts, and at the last one in its reason."""
    crashes = before.with_one(_short_name(failure))
    facts = {**(failure.facts or {}), **crashes.facts()}
    if crashes.count < rules.max_crashes:
        return replace(failure, facts=facts)
    reason = f"{failure.reason}; {crashes} and is not tried again"
    return replace(failure, facts=facts, is_unrecoverable=True, reason=reason)


def _short_name(failure: Failed) -> str:
    """Return a crash in a few words: ``SIGSEGV``, ``exit code 3``, ``JobMemoryExceeded``."""
    facts = failure.facts or {}
    if "signal" in facts:
        return facts["signal"]
    return f"exit code {facts['exit_code']}" if "exit_code" in facts else failure.cause


def _move(outcome: Postponed | ChildrenAwaited | RateLimited) -> Transition:
    match outcome:
        case Postponed(wait_ms):
            return Postpone(wait_ms)
        case ChildrenAwaited():
            return AwaitChildren()
        case RateLimited(limit_ms):
            return LimitRate(limit_ms)
        case _:
            assert_never(outcome)


def _may_retry(
    failure: Failed, options: JobOptions, failures: int, started: int, rules: RetryRules
) -> bool:
    limit = rules.max_started_attempts
    is_spent = limit is not None and started >= limit
    return failures < options.attempts and not failure.is_unrecoverable and not is_spent


def _retry(
    failure: Failed, options: JobOptions, failures: int, retention: Retention, rules: RetryRules
) -> Transition:
    wait_ms, note = wait_after(
        failures,
        options.backoff,
        error_name=failure.cause,
        reason=failure.reason,
        strategies=rules.strategies,
    )
    if wait_ms is None:
        reason = f"{failure.reason} (not tried again: {note})" if note else failure.reason
        return _fail(replace(failure, reason=reason), options, retention)
    if wait_ms:
        return RetryLater(failure, options.stack_trace_limit, wait_ms)
    return RetryNow(failure, options.stack_trace_limit, options.lifo)


def _fail(failure: Failed, options: JobOptions, retention: Retention) -> Fail:
    keep = options.remove_on_fail or retention.failed
    return Fail(failure, keep, options.stack_trace_limit, options.attempts)
