"""What single arguments may be, whatever they are for; said with the argument's name."""

from __future__ import annotations

import operator
from datetime import timedelta
from typing import SupportsIndex

from sandboxq.errors import UsageError

# BullMQ packs the priority into the upper 21 bits of a score.
MAX_PRIORITY = 2**21 - 1

# The largest integer that Lua and JavaScript count exactly.
MAX_SAFE_INTEGER = 2**53 - 1

Duration = float | timedelta


def seconds_from(name: str, value: object) -> float:
    """Return a duration of 0 or more as seconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        message = f"{name} must be seconds or a timedelta, not {value!r}"
        raise UsageError(message)
    # Compared before it is multiplied: an integer may be larger than any float.
    if not (0 <= seconds <= MAX_SAFE_INTEGER and seconds * 1000 <= MAX_SAFE_INTEGER):
        message = f"{name} must be 0 seconds or more, and finite, not {value!r}"
        raise UsageError(message)
    return float(seconds)


def positive_seconds(name: str, value: object) -> float:
    """Return a duration of a millisecond or more as seconds."""
    seconds = seconds_from(name, value)
    # Below a millisecond the wire would say 0, which means none.
    if round(seconds * 1000) < 1:
        message = f"{name} must be a millisecond or more, not {value!r}"
        raise UsageError(message)
    return seconds


def checked_whole(
    name: str, value: object, *, least: int = 0, limit: int = MAX_SAFE_INTEGER
) -> int:
    """Return an integer between these; floats are refused even when they are whole."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        message = f"{name} must be an integer, not {value!r}"
        raise UsageError(message)
    number = operator.index(value)
    if not least <= number <= limit:
        message = f"{name} must be between {least} and {limit}, not {number}"
        raise UsageError(message)
    return number


def checked_priority(name: str, value: object) -> int:
    """Return a priority that a score can hold; 0 is none."""
    return checked_whole(name, value, limit=MAX_PRIORITY)


def checked_flag(name: str, value: object) -> bool:
    """Return True or False; no other value stands for them."""
    if not isinstance(value, bool):
        message = f"{name} must be True or False, not {value!r}"
        raise UsageError(message)
    return value


def checked_text(name: str, value: object) -> str:
    """Return text of at least one character that UTF-8 can hold."""
    if not isinstance(value, str) or not value:
        message = f"{name} must be text and not empty, not {value!r}"
        raise UsageError(message)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        message = f"{name} must be text that UTF-8 can hold, not {value!r}"
        raise UsageError(message) from error
    return value
