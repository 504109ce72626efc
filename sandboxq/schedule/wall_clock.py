"""The wall clock of a time zone, which can be moved forward; and zones by their names."""

from __future__ import annotations

import calendar
import functools
import os
import re
import zoneinfo
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from datetime import tzinfo

_HOUR = timedelta(hours=1)
_FIXED = re.compile(r"utc(?:([+-])([0-9]{1,2})(?::([0-9]{2}))?)?|gmt", re.IGNORECASE)
_SYSTEM_ZONE = Path("/etc/localtime")


class WallClock:
    """Shows ``local``, the time in a zone, which is ``utc`` plus ``offset``; all without tzinfo.

    A local time that comes twice keeps the offset that was in force before the move if it can; one
    that is skipped becomes the time as much later as was skipped.
    """

    __slots__ = ("_zone", "local", "offset", "utc")

    def __init__(self, utc: datetime, zone: tzinfo) -> None:
        """Show this moment."""
        self._zone = zone
        self._show(utc)

    def set(
        self, *, hour: int | None = None, minute: int | None = None, second: int | None = None
    ) -> None:
        """Change what is given of the time of day."""
        local = self.local
        self._set(
            local.replace(
                hour=local.hour if hour is None else hour,
                minute=local.minute if minute is None else minute,
                second=local.second if second is None else second,
            )
        )

    def month(self) -> None:
        """Move to where the next month begins."""
        local = self.local
        first = (local.replace(day=28) + timedelta(days=4)).replace(day=1)
        length = calendar.monthrange(first.year, first.month)[1]
        # By way of the same day, whose offset decides over a midnight that comes twice.
        self._set(first.replace(day=min(local.day, length)))
        self._set(self.local.replace(day=1, hour=0, minute=0, second=0))

    def day(self) -> None:
        """Move to where the next day begins."""
        self._set(self.local + timedelta(days=1))
        self.set(hour=0, minute=0, second=0)

    def hour(self) -> None:
        """Move to where the next hour begins."""
        before = self.utc
        self._show(before + _HOUR)
        self.set(minute=0, second=0)
        if self.utc <= before:
            # The clocks went back by less than an hour, into the hour that was to be left. Node
            # goes there, and finds a time in the past, or none.
            self._show(before)
            self._set(self.local.replace(minute=0, second=0) + _HOUR)

    def minute(self) -> None:
        """Move to where the next minute begins."""
        self._show(self.utc + timedelta(minutes=1))
        self.set(second=0)

    def second(self) -> None:
        """Move by a second."""
        self._show(self.utc + timedelta(seconds=1))

    def has_jump_today(self) -> bool:
        """Tell whether the day begins and ends with different offsets."""
        begin, end = WallClock(self.utc, self._zone), WallClock(self.utc, self._zone)
        begin.set(hour=0, minute=0, second=0)
        end.day()
        return begin.offset != self._offset(end.utc - timedelta(milliseconds=1))

    def _offset(self, utc: datetime) -> timedelta:
        zone = self._zone
        return zone.fromutc(utc.replace(tzinfo=zone)).utcoffset() or timedelta()

    def _show(self, utc: datetime) -> None:
        self.utc = utc
        self.offset = self._offset(utc)
        self.local = utc + self.offset

    def _set(self, local: datetime) -> None:
        guess = self.offset
        there = self._offset(local - guess)
        if there != guess:
            guess, there = there, self._offset(local - there)
        # In a gap neither offset holds; the smaller one leads to the time after it.
        self._show(local - min(guess, there))


# ── zones ───────────────────────────────────────────────────────────────────


@functools.lru_cache(maxsize=256)
def zone_named(name: str) -> tzinfo:
    """Return the zone of this IANA name, ``UTC``, ``UTC+5:30``, or the machine's for ``""``.

    Raises: UsageError when there is no such zone.
    """
    if not name or name.lower() in ("local", "system"):
        return _local_zone()
    fixed = _FIXED.fullmatch(name)
    try:
        return _fixed_zone(fixed) if fixed else _iana_zone(name)
    except (OSError, KeyError, ValueError) as error:
        # A folder or no text; no such file; a path out of the database, or a whole day of offset.
        message = f"there is no time zone {name!r}; names are like Europe/Berlin or UTC"
        raise UsageError(message) from error


def _fixed_zone(match: re.Match[str]) -> tzinfo:
    offset = timedelta(hours=int(match[2] or 0), minutes=int(match[3] or 0))
    return timezone(-offset if match[1] == "-" else offset)


def _iana_zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (OSError, KeyError):
        # Node does not mind capitals.
        spellings = {each.lower(): each for each in zoneinfo.available_timezones()}
        return ZoneInfo(spellings[name.lower()])


def _local_zone() -> tzinfo:
    """Return the zone of this process: $TZ, else the system's, else UTC."""
    named = os.environ.get("TZ", "").lstrip(":")
    try:
        if named:
            return ZoneInfo(named)
        with _SYSTEM_ZONE.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, KeyError, ValueError):
        return UTC
