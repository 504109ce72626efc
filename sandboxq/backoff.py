"""How long to wait before the next attempt (bullmq-wire.md 2.3)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

FIXED = "fixed"
EXPONENTIAL = "exponential"


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits ``delay`` seconds, kept or doubled, less a random share of up to ``jitter``."""

    kind: str
    delay: float = 0.0
    jitter: float = 0.0

    @classmethod
    def fixed(cls, delay: float, *, jitter: float = 0.0) -> Backoff:
        """Wait the same ``delay`` seconds before each attempt."""
        return cls(FIXED, *_checked(delay, jitter))

    @classmethod
    def exponential(cls, delay: float, *, jitter: float = 0.0) -> Backoff:
        """Wait ``delay`` seconds, then twice as long before each further attempt."""
        return cls(EXPONENTIAL, *_checked(delay, jitter))


def _checked(delay: float, jitter: float) -> tuple[float, float]:
    if not delay >= 0:
        message = f"backoff delay must be 0 seconds or more, not {delay!r}"
        raise UsageError(message)
    if not 0 <= jitter <= 1:
        message = f"backoff jitter must be between 0 and 1, not {jitter!r}"
        raise UsageError(message)
    return delay, jitter


def delay_ms(
    backoff: Backoff | None, failures: int, *, uniform: Callable[[], float] = random.random
) -> int | None:
    """Return the milliseconds to wait after ``failures`` failed attempts; 0 is at once.

    None means that the kind is unknown: only a strategy of the user's could tell.
    """
    if backoff is None:
        return 0
    if backoff.kind not in (FIXED, EXPONENTIAL):
        return None
    doublings = failures - 1 if backoff.kind == EXPONENTIAL else 0
    full_ms = round(backoff.delay * 1000 * 2**doublings)
    lowest_ms = full_ms * (1 - backoff.jitter)
    return int(lowest_ms + uniform() * (full_ms - lowest_ms))
