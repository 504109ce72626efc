"""The decision after an attempt: pure, and the same as Node's workers take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sandboxq.model.backoff import Backoff
from sandboxq.model.job import (
    KEEP_ALL,
    KEEP_NONE,
    JobOptions,
    Keep,
)
from sandboxq.model.outcome import (
    AwaitChildren,
    ChildrenAwaited,
    Complete,
    Completed,
    Fail,
    Failed,
    HandBack,
    HandedBack,
    LimitRate,
    Outcome,
    Postpone,
    Postponed,
    RateLimited,
    Retention,
    RetryLater,
    RetryNow,
    RetryRules,
    Transition,
    decide,
)

KEEP = Retention()
FAILURE = Failed("boom", "Traceback", "ValueError")


def after_failure(
    options: JobOptions, *, attempts_made: int = 0, failure: Failed = FAILURE
) -> Transition:
    """Decide after a failed attempt."""
    return decide(failure, options, attempts_made=attempts_made, retention=KEEP)


def test_value_passes_through_untouched() -> None:
    """The coordinator never decodes a result."""
    value = b'{"width": 320}'
    transition = decide(Completed(value), JobOptions(), attempts_made=0, retention=KEEP)
    assert transition == Complete(value, KEEP_ALL)


@pytest.mark.parametrize("attempts", [0, 1])
def test_zero_and_one_attempt_mean_the_same(attempts: int) -> None:
    """Node writes 0 when nothing was asked for (gotcha G12)."""
    assert isinstance(after_failure(JobOptions(attempts=attempts)), Fail)


def test_last_attempt_fails_for_good() -> None:
    """The failure at hand counts."""
    options = JobOptions(attempts=3)
    assert isinstance(after_failure(options, attempts_made=1), RetryNow)
    assert isinstance(after_failure(options, attempts_made=2), Fail)


def test_backoff_delays_the_retry() -> None:
    """The second failure of an exponential rule waits twice its delay."""
    options = JobOptions(attempts=5, backoff=Backoff.exponential(1))
    transition = after_failure(options, attempts_made=1)
    assert isinstance(transition, RetryLater)
    assert transition.delay_ms == 2000


def test_unrecoverable_ends_at_once() -> None:
    """A processor that knows better is believed."""
    failure = Failed("no such photo", is_unrecoverable=True)
    assert isinstance(after_failure(JobOptions(attempts=5), failure=failure), Fail)


def test_unknown_backoff_fails_instead_of_leaving_the_job_active() -> None:
    """Node throws inside its failure path here, and the job stalls for ever."""
    options = JobOptions(attempts=5, backoff=Backoff.custom("theirs"))
    transition = after_failure(options)
    assert isinstance(transition, Fail)
    reason = "boom (not tried again: this worker has no backoff strategy 'theirs')"
    assert transition.failure == replace(FAILURE, reason=reason)
    # It is not asked for where there is no further attempt anyway.
    assert after_failure(options, attempts_made=4) == Fail(FAILURE, KEEP_ALL, None, 5)


@pytest.mark.parametrize(("seconds", "kind"), [(2, RetryLater), (0, RetryNow), (None, Fail)])
def test_a_strategy_of_the_workers_decides(seconds: float | None, kind: type) -> None:
    """It sees the number of failures, the error's class and its text."""
    seen: list[tuple[int, str, str]] = []

    def strategy(attempts_made: int, error_name: str, reason: str) -> float | None:
        seen.append((attempts_made, error_name, reason))
        return seconds

    transition = decide(
        FAILURE,
        JobOptions(attempts=5, backoff=Backoff.custom("mine")),
        attempts_made=1,
        retention=KEEP,
        rules=RetryRules({"mine": strategy}),
    )

    assert isinstance(transition, (RetryLater, RetryNow, Fail))
    assert isinstance(transition, kind)
    assert transition.failure == FAILURE
    assert seen == [(2, "ValueError", "boom")]


@pytest.mark.parametrize(("started", "kind"), [(2, RetryNow), (3, Fail), (4, Fail)])
def test_a_job_is_not_started_more_often_than_allowed(started: int, kind: type) -> None:
    """Starts count what attempts do not: stalls, delays, and hands that gave it back."""
    transition = decide(
        FAILURE,
        JobOptions(attempts=9),
        attempts_made=0,
        attempts_started=started,
        retention=KEEP,
        rules=RetryRules(max_started_attempts=3),
    )
    assert isinstance(transition, kind)


def test_lifo_survives_a_retry() -> None:
    """A job that jumped the queue once does so again."""
    transition = after_failure(JobOptions(attempts=2, lifo=True))
    assert isinstance(transition, RetryNow)
    assert transition.lifo


def test_job_decides_before_worker_what_is_kept() -> None:
    """The job's own options win over the worker's defaults."""
    retention = Retention(completed=KEEP_NONE, failed=KEEP_NONE)
    options = JobOptions(remove_on_complete=Keep(count=5))
    completed = decide(Completed(b"1"), options, attempts_made=0, retention=retention)
    failed = decide(FAILURE, options, attempts_made=0, retention=retention)
    assert isinstance(completed, Complete)
    assert isinstance(failed, Fail)
    assert completed.keep == Keep(count=5)
    assert failed.keep == KEEP_NONE


@pytest.mark.parametrize(
    ("outcome", "transition"),
    [
        (Postponed(1500), Postpone(1500)),
        (ChildrenAwaited(), AwaitChildren()),
        (RateLimited(10), LimitRate(10)),
    ],
)
def test_what_the_processor_asks_for_is_done(outcome: Outcome, transition: Transition) -> None:
    """Attempts and options have no say in it."""
    options = JobOptions(attempts=1)
    assert decide(outcome, options, attempts_made=1, retention=KEEP) == transition


def test_handing_back_counts_nothing() -> None:
    """Whatever attempts remain, a job that is handed back is as it was."""
    for was_started in (False, True):
        transition = decide(
            HandedBack(was_started=was_started), JobOptions(), attempts_made=4, retention=KEEP
        )
        assert transition == HandBack(was_started=was_started)
