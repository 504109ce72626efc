"""When a cron pattern comes next, as Node's cron-parser 5 would say (protocol.md 3.22).

Five fields or six, seconds first. Where clocks jump, a time that is skipped counts in the hour that
the clocks land in, and an hour that comes twice counts once, the first time; a pattern that runs in
every hour follows real time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sandboxq.errors import UsageError
from sandboxq.schedule.cron_field import (
    DAY,
    DAYS_PER_WEEK,
    HOUR,
    MINUTE,
    MONTH,
    SECOND,
    WEEKDAY,
    numbers_of,
    random_numbers,
    refuse,
    values_of,
)
from sandboxq.schedule.wall_clock import WallClock

if TYPE_CHECKING:
    from datetime import tzinfo

# A caller's own strategy: gets the pattern and ms since 1970, and returns the next time after it.
RepeatStrategy = Callable[[str, int], int | None]

MACROS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
    "@minutely": "0 * * * * *",
    "@secondly": "* * * * * *",
    "@weekdays": "0 0 0 * * 1-5",
    "@weekends": "0 0 0 * * 0,6",
}
# Node reads no more characters, nor fields.
MOST_CHARACTERS = 1024
_WILDCARDS = ("*", "?")
_DEFAULTS = ("0", "*", "*", "*", "*", "*")
# Every pattern that comes at all comes within a tenth of this; the fifth Monday of a February is
# the rarest.
MOST_STEPS = 10_000

_HOURS_PER_DAY = 24
# By month; a 29 February may come.
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# ── the pattern ─────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed pattern; values ascend, Sunday is 0.

    ``last_weekdays`` are those meant by ``5L``. ``nth`` is the 2 of ``1#2``, 0 for none. A day
    matches either ``days`` or ``weekdays`` when both are restricted.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    days: frozenset[int]
    weekdays: frozenset[int]
    last_weekdays: frozenset[int]
    nth: int
    has_last_day: bool
    is_any_day: bool
    is_any_weekday: bool

    def next_ms(self, after_ms: int, zone: tzinfo) -> int | None:
        """Return the first time after ``after_ms`` (milliseconds), None when it never comes."""
        try:
            found = _Search(self, after_ms, zone).run()
        except (OverflowError, ValueError, OSError):
            # Python's calendar ends before that year: a job's options may have any number.
            return None
        return None if found is None else _ms_from_utc(found)

    def fits_day(self, day: datetime) -> bool:
        """Tell whether the pattern allows this day."""
        fits_date = day.day in self.days or (self.has_last_day and _days_left(day) == 0)
        if self.is_any_weekday:
            return fits_date
        fits_weekday = self._fits_weekday(day)
        return fits_weekday if self.is_any_day else fits_date or fits_weekday

    def _fits_weekday(self, day: datetime) -> bool:
        weekday = day.isoweekday() % DAYS_PER_WEEK
        if weekday in self.last_weekdays and _days_left(day) < DAYS_PER_WEEK:
            return True
        week = (day.day - 1) // DAYS_PER_WEEK + 1
        return weekday in self.weekdays and self.nth in (0, week)


def _days_left(day: datetime) -> int:
    """Return how many days of the month follow."""
    next_month = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
    return (next_month - day).days - 1


def next_by(strategy: RepeatStrategy, pattern: str, after_ms: int) -> int | None:
    """Return the next time of a pattern by a caller's own strategy.

    Raises: UsageError when it raises, or returns what is no later time.
    """
    try:
        found: object = strategy(pattern, after_ms)
    except Exception as error:  # a caller's function: whatever it is, the pattern is no use
        message = f"the repeat strategy failed for {pattern!r}: {error!r}"
        raise UsageError(message) from error
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or found <= after_ms:
        message = f"the repeat strategy must return ms after {after_ms}, or None, not {found!r}"
        raise UsageError(message)
    return found


def parse(pattern: str, *, seed: str = "") -> Cron:
    """Return the parsed pattern; ``seed`` decides what ``H`` stands for.

    Raises: UsageError naming the field and what is wrong with it.
    """
    raw = _raw_fields(pattern)
    draw = random_numbers(seed)
    try:
        return _cron(raw, draw)
    except UsageError as error:
        message = f"cron {pattern!r}: {error}"
        raise UsageError(message) from error


def _raw_fields(pattern: str) -> list[str]:
    fields = MACROS.get(pattern, pattern).split()
    if not fields or len(fields) > len(_DEFAULTS) or len(pattern) > MOST_CHARACTERS:
        message = (
            f"cron must have 5 fields, or 6 with seconds first, in at most {MOST_CHARACTERS} "
            f"characters, or be one of {', '.join(MACROS)}; not {pattern[:80]!r}"
        )
        raise UsageError(message)
    return [*_DEFAULTS[: len(_DEFAULTS) - len(fields)], *fields]


def _cron(raw: list[str], draw: Callable[[], float]) -> Cron:
    weekday_text, nth = _split_nth(raw[5])
    # In this order, as each field draws a number for its H.
    seconds = numbers_of(SECOND, raw[0], draw())
    minutes = numbers_of(MINUTE, raw[1], draw())
    hours = numbers_of(HOUR, raw[2], draw())
    months = numbers_of(MONTH, raw[4], draw())
    days, _ = values_of(DAY, raw[3], draw())
    weekdays, last_weekdays = values_of(WEEKDAY, weekday_text, draw())
    if "" in last_weekdays:
        refuse(WEEKDAY, raw[5], "L needs a day before it, as in 5L")
    cron = Cron(
        seconds,
        minutes,
        hours,
        months,
        days=frozenset(days),
        weekdays=frozenset(value % DAYS_PER_WEEK for value in weekdays),
        # Node looks at the first digit only, and then at all the days of the field.
        last_weekdays=_last_weekdays(weekdays, last_weekdays) if "L" in raw[5] else frozenset(),
        nth=nth,
        has_last_day="L" in raw[3],
        is_any_day=raw[3] in _WILDCARDS,
        is_any_weekday=raw[5] in _WILDCARDS,
    )
    _refuse_impossible_day(cron, raw[3])
    return cron


def _last_weekdays(weekdays: list[int], lasts: list[str]) -> frozenset[int]:
    digits = [int(text[0]) for text in lasts] + weekdays
    return frozenset(digit % DAYS_PER_WEEK for digit in digits)


def _refuse_impossible_day(cron: Cron, raw: str) -> None:
    if not cron.has_last_day and cron.is_any_weekday:
        longest = max(_LONGEST_MONTHS[month - 1] for month in cron.months)
        if min(cron.days) > longest:
            refuse(DAY, raw, f"the month has at most {longest} days")


def _split_nth(text: str) -> tuple[str, int]:
    weekday, sign, nth = text.partition("#")
    if not sign:
        return text, 0
    if any(letter in text for letter in ",-/L"):
        refuse(WEEKDAY, text, "# goes with no list, range, step or L")
    if not re.fullmatch("0*[1-5]", nth):
        refuse(WEEKDAY, text, "what follows # must be 1 to 5")
    return weekday, int(nth)


# ── the search ──────────────────────────────────────────────────────────────


def _utc_from_ms(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC).replace(tzinfo=None)


def _ms_from_utc(utc: datetime) -> int:
    return round(utc.replace(tzinfo=UTC).timestamp()) * 1000


class _Search:
    """Walks a wall clock forward until it shows a time that the pattern allows.

    What Node finds where clocks jump depends on the steps by which it gets there, hence the same
    ones here: month, day, hour, minute, second, the largest that does not fit first.
    """

    def __init__(self, cron: Cron, after_ms: int, zone: tzinfo) -> None:
        self._cron = cron
        self._clock = WallClock(_utc_from_ms(after_ms), zone)
        self._watches_jumps = len(cron.hours) < _HOURS_PER_DAY
        # The hours that the clocks skipped on the way, and the one they landed in.
        self._skipped: frozenset[int] = frozenset()
        self._landing_hour = -1
        # The hour that has begun for the second time.
        self._repeated_hour = -1
        self._after: datetime | None = self._clock.utc
        if after_ms % 1000:
            self._after = None
            self._step(self._clock.second)

    def run(self) -> datetime | None:
        cron, clock = self._cron, self._clock
        for _ in range(MOST_STEPS):
            if clock.local.month not in cron.months:
                self._leave_day(clock.month)
            elif not cron.fits_day(clock.local):
                self._leave_day(clock.day)
            elif self._fits_hour():
                if clock.local.minute not in cron.minutes:
                    self._to_minute()
                elif clock.local.second not in cron.seconds:
                    self._to_second()
                elif clock.utc == self._after:
                    self._step(clock.second)
                else:
                    return clock.utc
        return None

    def _fits_hour(self) -> bool:
        """Tell whether the hour is right, or else move on."""
        hour, hours = self._clock.local.hour, self._cron.hours
        if hour == self._landing_hour and not self._skipped.isdisjoint(hours):
            return True
        if hour == self._repeated_hour:
            self._repeated_hour = -1
            self._step(self._clock.hour)
            return False
        if hour in hours:
            return True
        self._landing_hour = -1
        self._to_hour()
        return False

    def _leave_day(self, move: Callable[[], None]) -> None:
        """Move to the next day or month; where clocks jump at midnight, that begins later."""
        move()
        hour = self._clock.local.hour
        # What was skipped before belongs to the day that was left.
        skips = self._watches_jumps and hour > 0
        self._skipped = frozenset(range(hour)) if skips else frozenset()
        self._landing_hour = hour if skips else -1

    def _to_hour(self) -> None:
        clock, cron = self._clock, self._cron
        hour = _following(cron.hours, clock.local.hour)
        if hour is None:
            self._leave_day(clock.day)
            return
        if clock.has_jump_today():
            for _ in range(hour - clock.local.hour):
                self._step(clock.hour)
                if clock.local.hour >= hour:
                    break
        else:
            clock.set(hour=hour)
        clock.set(minute=cron.minutes[0])
        clock.set(second=cron.seconds[0])

    def _to_minute(self) -> None:
        clock, cron = self._clock, self._cron
        minute = _following(cron.minutes, clock.local.minute)
        if minute is None:
            self._step(clock.hour)
            minute = cron.minutes[0]
        clock.set(minute=minute)
        clock.set(second=cron.seconds[0])

    def _to_second(self) -> None:
        clock, seconds = self._clock, self._cron.seconds
        second = _following(seconds, clock.local.second)
        if second is None:
            self._step(clock.minute)
            second = seconds[0]
        clock.set(second=second)

    def _step(self, move: Callable[[], None]) -> None:
        """Move by an hour or less, and note it when the clocks jumped."""
        clock = self._clock
        hour, offset = clock.local.hour, clock.offset
        move()
        if not self._watches_jumps:
            return
        passed = (clock.local.hour - hour) % _HOURS_PER_DAY
        if clock.offset > offset and passed > 1:
            self._skipped = frozenset((hour + i) % _HOURS_PER_DAY for i in range(1, passed))
            self._landing_hour = clock.local.hour
        elif not passed and clock.local.minute == clock.local.second == 0:
            self._repeated_hour = clock.local.hour


def _following(values: tuple[int, ...], value: int) -> int | None:
    return next((each for each in values if each > value), None)
