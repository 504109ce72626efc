"""Counting crashes: pure, and apart from attempts."""

from __future__ import annotations

from sandboxq.model.job import JobOptions
from sandboxq.model.outcome import (
    MAX_DEATHS_BESIDE,
    Crashes,
    Fail,
    Failed,
    HandBack,
    HandedBack,
    Interrupted,
    Retention,
    RetryNow,
    RetryRules,
    Transition,
    crashes_from_facts,
    decide,
)

_RULES = RetryRules(max_crashes=3)
_SEGV = Failed("died", cause="JobCrashed", facts={"signal": "SIGSEGV"}, is_crash=True)


def _after(
    outcome: Failed | Interrupted | HandedBack, crashes: Crashes, attempts: int = 9
) -> Transition:
    options = JobOptions(attempts=attempts)
    return decide(
        outcome, options, attempts_made=0, crashes=crashes, retention=Retention(), rules=_RULES
    )


def test_a_crash_is_counted_beside_the_attempt() -> None:
    """The job's own rules hold until the limit."""
    transition = _after(_SEGV, Crashes(1, ("exit code 3",)))
    assert isinstance(transition, RetryNow)
    facts = {"signal": "SIGSEGV", "crashes": "2", "history": "exit code 3, SIGSEGV"}
    assert transition.failure.facts == facts


def test_at_the_limit_attempts_no_longer_matter() -> None:
    """The reason tells the history to every dashboard."""
    transition = _after(_SEGV, Crashes(2, ("exit code 3", "JobMemoryExceeded")))
    assert isinstance(transition, Fail)
    history = "exit code 3, JobMemoryExceeded, SIGSEGV"
    text = f"died; the job has crashed 3 times ({history}) and is not tried again"
    assert transition.failure.reason == text


def test_who_is_not_to_blame_keeps_the_attempt() -> None:
    """Until it has happened too often, whoever is to blame."""
    transition = _after(Interrupted(_SEGV), Crashes(), attempts=1)
    facts = {"signal": "SIGSEGV", "crashes": "1", "history": "SIGSEGV"}
    assert transition == HandBack(was_started=True, facts=facts, is_crash=True)
    assert isinstance(_after(Interrupted(_SEGV), Crashes(2, ("a", "b"))), Fail)


def test_a_neighbour_goes_back_but_not_for_ever() -> None:
    """What the marks of a child say may be wrong: nothing runs again without any limit."""
    beside = HandedBack(was_started=True, is_neighbour=True)
    before = Crashes(1, ("SIGSEGV",), MAX_DEATHS_BESIDE - 2)
    transition = _after(beside, before, attempts=1)
    facts = {"crashes": "1", "history": "SIGSEGV", "beside": str(MAX_DEATHS_BESIDE - 1)}
    assert transition == HandBack(was_started=True, facts=facts)
    last = _after(beside, Crashes(beside=MAX_DEATHS_BESIDE - 1), attempts=99)
    assert isinstance(last, Fail)
    assert last.failure.cause == "JobCrashed"


def test_history_has_an_end_and_the_count_none() -> None:
    """A job that may crash a thousand times must not carry a thousand words."""
    crashes = Crashes()
    for number in range(15):
        crashes = crashes.with_one(f"exit code {number}")
    assert crashes.count == 15
    assert crashes.history[0] == "exit code 5"
    facts = crashes.facts()
    assert crashes_from_facts(int(facts["crashes"]), facts["history"]) == crashes
