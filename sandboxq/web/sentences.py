"""Says a schedule in a sentence: ``every weekday at 09:30``, ``every 5 minutes``."""

from __future__ import annotations

import re

_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SHORT_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_STEP = re.compile(r"(?:\*|0)/(\d{1,4})", re.ASCII)
_NUMBER = re.compile(r"\d{1,4}", re.ASCII)
_FIELDS = 5


def sentence_of(cron: str | None, every: float | None, tz: str | None) -> str:
    """Return when a scheduler runs, as people say it; a pattern that is too odd, as it is."""
    if every:
        return f"every {duration_text(every)}"
    if not cron:
        return "never"
    said = _said(cron.split()) or f"by the pattern {cron}"
    return f"{said} ({tz})" if tz else said


def duration_text(seconds: float) -> str:
    """Return seconds in the largest unit that is whole: ``5 minutes``, ``second``."""
    for size, unit in _UNITS:
        if seconds >= size and seconds % size == 0:
            count = int(seconds // size)
            return unit if count == 1 else f"{count:,} {unit}s"
    return f"{seconds:g} seconds"


def _said(fields: list[str]) -> str:
    if len(fields) == _FIELDS + 1 and fields[0] == "0":
        fields = fields[1:]
    if len(fields) != _FIELDS:
        is_of_seconds = fields[1:] == ["*"] * _FIELDS
        return _every(fields[0], "second") if is_of_seconds else ""
    minute, hour, day, month, weekday = fields
    days = _days(day, month, weekday)
    if not days:
        return ""
    if _NUMBER.fullmatch(minute) and _NUMBER.fullmatch(hour):
        return f"{days} at {int(hour):02}:{int(minute):02}"
    within = "" if days == "every day" else f", {days}"
    said = _hours(minute, hour)
    return f"{said}{within}" if said else ""


def _hours(minute: str, hour: str) -> str:
    """Return the times of a day that come again and again."""
    if _NUMBER.fullmatch(minute):
        said = _every(hour, "hour")
        return f"{said} at minute {int(minute)}" if said else ""
    return _every(minute, "minute") if hour == "*" else ""


def _every(field: str, unit: str) -> str:
    if field == "*":
        return f"every {unit}"
    step = _STEP.fullmatch(field)
    return f"every {step[1]} {unit}s" if step else ""


def _days(day: str, month: str, weekday: str) -> str:
    """Return the days, '' when they take more than a few words."""
    if (day, weekday) == ("*", "*"):
        return "every day" if month == "*" else _with_month("every day", month)
    if day == "*" and month == "*":
        return _weekdays(weekday.upper())
    if weekday == "*" and _NUMBER.fullmatch(day):
        text = f"on day {int(day)} of the month" if month == "*" else f"on day {int(day)}"
        return text if month == "*" else _with_month(text, month)
    return ""


def _with_month(text: str, month: str) -> str:
    if _NUMBER.fullmatch(month) and 1 <= int(month) <= len(_MONTHS):
        return f"{text} of {_MONTHS[int(month) - 1]}"
    return ""


def _weekdays(field: str) -> str:
    if field in {"1-5", "MON-FRI"}:
        return "every weekday"
    names = [_weekday(each) for each in field.split(",")]
    if not all(names):
        return ""
    return f"every {', '.join(names)}"


def _weekday(text: str) -> str:
    if text in _SHORT_DAYS:
        return _DAYS[_SHORT_DAYS.index(text)]
    return _DAYS[int(text)] if text.isdigit() and text.isascii() and int(text) < len(_DAYS) else ""
