"""How long to wait before the next attempt (protocol.md 2.3)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.errors import LONGEST_SECONDS, UsageError
from sandboxq.model.validation import checked_text, seconds_from, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

FIXED = "fixed"
EXPONENTIAL = "exponential"
BUILT_IN = (FIXED, EXPONENTIAL)

# More exceed the longest time anyway, and then the numbers that Python has.
_MOST_DOUBLINGS = 64

# Called with the attempts made (the one that failed included), the name of the error's class and
# its reason. Returns the seconds to wait, 0 for at once, None to fail the job now.
BackoffStrategy = Callable[[int, str, str], float | None]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits ``delay`` seconds, kept or doubled, less a random share of up to ``jitter``.

    Made by its class methods, which take a timedelta too, and check.
    """

    kind: str
    delay: float = 0.0
    jitter: float = 0.0

    @classmethod
    def fixed(cls, delay: float | timedelta, *, jitter: float = 0.0) -> Backoff:
        """Wait the same ``delay`` seconds before each attempt."""
        return cls(FIXED, *_checked(delay, jitter))

    @classmethod
    def exponential(cls, delay: float | timedelta, *, jitter: float = 0.0) -> Backoff:
        """Wait ``delay`` seconds, then twice as long before each further attempt."""
        return cls(EXPONENTIAL, *_checked(delay, jitter))

    @classmethod
    def custom(cls, kind: str, delay: float | timedelta = 0.0) -> Backoff:
        """Wait as the worker's strategy ``kind`` says."""
        if checked_text("backoff kind", kind) in BUILT_IN:
            message = f"a custom backoff needs a kind of its own, not {kind!r}"
            raise UsageError(message)
        return cls(kind, *_checked(delay, 0.0))


def _checked(delay: float | timedelta, jitter: float) -> tuple[float, float]:
    return seconds_from("backoff delay", delay), checked_jitter(jitter)


def checked_jitter(jitter: float) -> float:
    """Return the largest random share of a delay that is subtracted. Raises: UsageError."""
    if not (_is_number(jitter) and 0 <= jitter <= 1):
        message = f"backoff jitter must be between 0 and 1, not {shown(jitter)}"
        raise UsageError(message)
    return jitter


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class Wait(NamedTuple):
    """How long to wait before the next attempt: 0 is at once, None is that there is none.

    ``note`` says why there is none, unless a strategy wanted it so.
    """

    ms: int | None
    note: str = ""


def wait_after(
    failures: int,
    backoff: Backoff | None,
    *,
    error_name: str = "",
    reason: str = "",
    strategies: Mapping[str, BackoffStrategy] | None = None,
) -> Wait:
    """Return how long to wait after ``failures`` failed attempts, the last one for ``reason``."""
    if backoff is None:
        return Wait(0)
    if backoff.kind in BUILT_IN:
        return Wait(delay_ms(backoff, failures))
    strategy = (strategies or {}).get(backoff.kind)
    if strategy is None:
        return Wait(None, f"this worker has no backoff strategy {backoff.kind!r}")
    try:
        seconds = strategy(failures, error_name, reason)
    except Exception as error:  # noqa: BLE001 - user code; the job must not be lost with it
        what = f"{type(error).__name__}: {error}"
        return Wait(None, f"backoff strategy {backoff.kind!r} raised {what}")
    return _wait_from(seconds, backoff.kind)


def _wait_from(seconds: object, kind: str) -> Wait:
    if seconds is None:
        return Wait(None)
    if not (_is_number(seconds) and 0 <= seconds <= LONGEST_SECONDS):  # type: ignore[operator]  # a number by then
        return Wait(None, f"backoff strategy {kind!r} returned {seconds!r}, not seconds from 0")
    return Wait(round(seconds * 1000))  # type: ignore[operator]  # as above


def delay_ms(
    backoff: Backoff, failures: int, *, uniform: Callable[[], float] = random.random
) -> int:
    """Return the milliseconds of a built-in kind after ``failures`` failed attempts.

    Whatever delay and jitter a producer wrote, it is a time that Redis can count with.
    """
    doublings = min(failures - 1, _MOST_DOUBLINGS) if backoff.kind == EXPONENTIAL else 0
    ms = min(min(backoff.delay, LONGEST_SECONDS) * 1000 * 2**doublings, LONGEST_SECONDS * 1000)
    # As Node, which rounds what it has doubled; the rest is what binary fractions add.
    full_ms = math.floor(ms + 0.5) if backoff.kind == EXPONENTIAL else math.ceil(ms - 1e-6)
    lowest_ms = full_ms * (1 - min(max(backoff.jitter, 0), 1))
    return int(lowest_ms + uniform() * (full_ms - lowest_ms))
