"""Back-off: what Node's workers would wait, so that a mixed fleet agrees."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxq.errors import UsageError
from sandboxq.model.backoff import (
    Backoff,
    BackoffStrategy,
    Wait,
    delay_ms,
    wait_after,
)


def test_no_backoff_retries_at_once() -> None:
    """Without a rule the job goes straight back to the queue."""
    assert wait_after(3, None) == Wait(0)


@pytest.mark.parametrize(("failures", "expected"), [(1, 500), (2, 1000), (3, 2000), (10, 256_000)])
def test_exponential_doubles_from_the_first_failure(failures: int, expected: int) -> None:
    """BullMQ counts the failure at hand: the first wait is the delay itself."""
    assert delay_ms(Backoff.exponential(0.5), failures) == expected


def test_fixed_stays_the_same() -> None:
    """A fixed rule does not grow."""
    assert [delay_ms(Backoff.fixed(2), failures) for failures in (1, 5)] == [2000, 2000]


def test_built_in_kinds_need_no_strategy() -> None:
    """What the job says counts, whatever a worker calls its own."""
    strategies: dict[str, BackoffStrategy] = {"fixed": lambda *_: 9}
    assert wait_after(1, Backoff.fixed(2), strategies=strategies) == Wait(2000)


def test_unknown_kind_is_not_guessed() -> None:
    """A custom strategy of a Node worker is unknown here: the job fails, and says why."""
    assert wait_after(1, Backoff.custom("mine")) == Wait(
        None, "this worker has no backoff strategy 'mine'"
    )


@pytest.mark.parametrize(
    ("strategy", "wait"),
    [
        (lambda *_: 1.5, Wait(1500)),
        (lambda *_: 0, Wait(0)),
        (lambda *_: None, Wait(None)),
        (lambda made, name, why: made + len(name) + len(why), Wait(2000 + 10_000 + 4000)),
        (lambda *_: -1, Wait(None, "backoff strategy 'mine' returned -1, not seconds from 0")),
        (lambda *_: "1", Wait(None, "backoff strategy 'mine' returned '1', not seconds from 0")),
        (
            lambda *_: math.nan,
            Wait(None, "backoff strategy 'mine' returned nan, not seconds from 0"),
        ),
        (
            lambda *_: True,
            Wait(None, "backoff strategy 'mine' returned True, not seconds from 0"),
        ),
        (
            lambda *_: 1 / 0,
            Wait(None, "backoff strategy 'mine' raised ZeroDivisionError: division by zero"),
        ),
    ],
)
def test_custom_strategies(strategy: BackoffStrategy, wait: Wait) -> None:
    """Whatever a strategy does, the job has an end, and its reason tells."""
    found = wait_after(
        2,
        Backoff.custom("mine"),
        error_name="ValueError",
        reason="boom",
        strategies={"mine": strategy},
    )
    assert found == wait


@pytest.mark.parametrize("failures", [1, 64, 2000])
@pytest.mark.parametrize("delay", [1e-9, 1.0, 1e300])
@pytest.mark.parametrize("jitter", [-1.0, 0.0, 7.0])
def test_what_a_producer_writes_is_never_too_much(
    failures: int, delay: float, jitter: float
) -> None:
    """A number that cannot be counted with would lose the job in the middle of its failure."""
    wait = delay_ms(Backoff("exponential", delay, jitter), failures)
    assert 0 <= wait < 2**53


@pytest.mark.parametrize("kind", ["", "fixed", "exponential"])
def test_a_custom_kind_has_a_name_of_its_own(kind: str) -> None:
    """The built-in kinds have their own constructors."""
    with pytest.raises(UsageError, match="kind"):
        Backoff.custom(kind)


@given(
    delay=st.floats(0, 1000),
    jitter=st.floats(0, 1),
    uniform=st.floats(0, 1, exclude_max=True),
    failures=st.integers(1, 8),
)
def test_jitter_stays_between_its_bounds(
    delay: float, jitter: float, uniform: float, failures: int
) -> None:
    """Jitter shortens by at most its share and never lengthens."""
    full = delay_ms(Backoff.exponential(delay), failures)
    wait = delay_ms(Backoff.exponential(delay, jitter=jitter), failures, uniform=lambda: uniform)
    assert math.floor(full * (1 - jitter)) <= wait <= full


@pytest.mark.parametrize(("delay", "jitter"), [(-1, 0), (math.nan, 0), (1, -0.1), (1, 1.1)])
def test_nonsense_is_refused(delay: float, jitter: float) -> None:
    """A negative wait or an impossible jitter would only show when a job fails."""
    with pytest.raises(UsageError):
        Backoff.exponential(delay, jitter=jitter)
