"""Back-off: what Node's workers would wait, so that a mixed fleet agrees."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxq.backoff import Backoff, delay_ms
from sandboxq.errors import UsageError


def test_no_backoff_retries_at_once() -> None:
    """Without a rule the job goes straight back to the queue."""
    assert delay_ms(None, 3) == 0


@pytest.mark.parametrize(("failures", "expected"), [(1, 500), (2, 1000), (3, 2000), (10, 256_000)])
def test_exponential_doubles_from_the_first_failure(failures: int, expected: int) -> None:
    """BullMQ counts the failure at hand: the first wait is the delay itself."""
    assert delay_ms(Backoff.exponential(0.5), failures) == expected


def test_fixed_stays_the_same() -> None:
    """A fixed rule does not grow."""
    assert [delay_ms(Backoff.fixed(2), failures) for failures in (1, 5)] == [2000, 2000]


def test_unknown_kind_is_not_guessed() -> None:
    """A custom strategy of a Node worker is unknown here; the caller decides."""
    assert delay_ms(Backoff("mine", 1.0), 1) is None


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
    assert full is not None
    assert wait is not None
    assert math.floor(full * (1 - jitter)) <= wait <= full


@pytest.mark.parametrize(("delay", "jitter"), [(-1, 0), (math.nan, 0), (1, -0.1), (1, 1.1)])
def test_nonsense_is_refused(delay: float, jitter: float) -> None:
    """A negative wait or an impossible jitter would only show when a job fails."""
    with pytest.raises(UsageError):
        Backoff.exponential(delay, jitter=jitter)
