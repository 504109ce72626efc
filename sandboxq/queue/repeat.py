"""When a scheduler runs, as its maker says it, and what of that is refused."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sandboxq import cron
from sandboxq.errors import UsageError
from sandboxq.limits import (
    Duration,
    checked_flag,
    checked_text,
    checked_whole,
    positive_seconds,
    seconds_from,
)
from sandboxq.wall_clock import zone_named

if TYPE_CHECKING:
    from sandboxq.cron import RepeatStrategy


_SEEDS_TRIED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """When a scheduler runs: by a ``cron`` pattern, or ``every`` so many seconds (or a timedelta).

    A pattern has 5 fields, or 6 with seconds first, in Node's dialect; ``tz`` is its time zone,
    else that of whichever worker comes first. It runs first at its next time, or at once when
    ``immediately``. ``every`` runs first at once, and ``offset`` after each full interval since
    1970 when that is given. ``limit`` is how many jobs are made at most, ``count`` how many of them
    count as made before, ``start_date`` and ``end_date`` (with a time zone) when. With a
    ``strategy`` the pattern is in a language of its own: the function is given the pattern and a
    time in ms, and returns the next time after it, None for no more; workers need it too
    (``Worker(repeat_strategy=)``).

    Raises: UsageError naming the argument and what is allowed.
    """

    cron: str | None = None
    every: Duration | None = None
    offset: Duration | None = None
    tz: str | None = None
    limit: int | None = None
    count: int = 0
    start_date: datetime | None = None
    end_date: datetime | None = None
    immediately: bool = False
    strategy: RepeatStrategy | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if (self.cron is None) == (self.every is None):
            message = "a Repeat needs either cron or every, and not both"
            raise UsageError(message)
        _check_pace(self)
        _check_span(self)

    @property
    def every_ms(self) -> int | None:
        """The interval in milliseconds."""
        return _ms(self.every)

    @property
    def offset_ms(self) -> int | None:
        """The offset in milliseconds, None for none."""
        return _ms(self.offset) or None

    @property
    def start_ms(self) -> int | None:
        """The start date in milliseconds since the epoch."""
        return _epoch_ms(self.start_date)

    @property
    def end_ms(self) -> int | None:
        """The end date in milliseconds since the epoch."""
        return _epoch_ms(self.end_date)

    def next_ms(self, after_ms: int, *, seed: str = "") -> int | None:
        """Return the pattern's first time after ``after_ms``, None when none is left.

        ``seed`` decides what H stands for. Raises: UsageError when it leads to a pattern that
        cannot be.
        """
        if self.cron is None:
            message = "only a cron pattern says by itself when it comes next"
            raise UsageError(message)
        after_ms = max(after_ms, self.start_ms or 0)
        if self.strategy is not None:
            found = cron.next_by(self.strategy, self.cron, after_ms)
        else:
            found = cron.parse(self.cron, seed=seed).next_ms(after_ms, zone_named(self.tz or ""))
        is_over = found is not None and self.end_ms is not None and found > self.end_ms
        return None if is_over else found


def _check_pace(repeat: Repeat) -> None:
    if repeat.cron is not None:
        _refuse_with("cron", "offset", repeat.offset)
        checked_text("cron", repeat.cron)
        if repeat.strategy is None:
            _check_pattern(repeat.cron)
        if repeat.tz is not None:
            zone_named(checked_text("tz", repeat.tz))
        return
    positive_seconds("every", repeat.every)
    _refuse_with("every", "strategy", repeat.strategy)
    _refuse_with("every", "tz", repeat.tz)
    if repeat.offset is not None:
        seconds_from("offset", repeat.offset)
        if (repeat.offset_ms or 0) >= (repeat.every_ms or 0):
            message = f"offset must be less than every, not {repeat.offset!r}"
            raise UsageError(message)


def _check_pattern(pattern: str) -> None:
    """Refuse what no seed makes a pattern: by one, H may stand for a value that is there twice."""
    for seed in range(_SEEDS_TRIED - 1):
        with contextlib.suppress(UsageError):
            cron.parse(pattern, seed=str(seed))
            return
    cron.parse(pattern)


def _check_span(repeat: Repeat) -> None:
    checked_whole("count", repeat.count)
    if repeat.limit is not None:
        checked_whole("limit", repeat.limit, least=1)
    if repeat.limit is not None and repeat.count >= repeat.limit:
        message = f"count must be less than limit, not {repeat.count}: no job would be made"
        raise UsageError(message)
    for name in ("start_date", "end_date"):
        _check_date(name, getattr(repeat, name))
    if checked_flag("immediately", repeat.immediately):
        _refuse_with("immediately", "start_date", repeat.start_date)
        _refuse_with("immediately", "offset", repeat.offset)
    start, end = repeat.start_date, repeat.end_date
    if start is not None and end is not None and end <= start:
        message = f"end_date must be after start_date {start}, not {end}"
        raise UsageError(message)


def _refuse_with(name: str, other: str, value: object) -> None:
    if value is not None:
        message = f"{name} and {other} cannot be used together"
        raise UsageError(message)


def _check_date(name: str, value: object) -> None:
    if value is not None and not (isinstance(value, datetime) and value.tzinfo is not None):
        message = f"{name} must be a datetime with a time zone, not {value!r}"
        raise UsageError(message)


def _ms(duration: Duration | None) -> int | None:
    if duration is None:
        return None
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    return round(seconds * 1000)


def _epoch_ms(date: datetime | None) -> int | None:
    return None if date is None else round(date.timestamp() * 1000)
