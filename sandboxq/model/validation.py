"""Checks of numbers, durations, names and nesting, the same wherever they come from.

Values of a caller (arguments, settings, URLs, the command line) are checked, and refused with the
argument's name: ``checked_…``, ``…_seconds``. Values from Redis may be written by any client, and
are brought into range: ``…_from_wire``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, SupportsIndex

from sandboxq.errors import LONGEST_SECONDS, UsageError

# BullMQ packs the priority into the upper 21 bits of a score.
MAX_PRIORITY = 2**21 - 1

# The largest integer that Lua and JavaScript count exactly.
MAX_SAFE_INTEGER = 2**53 - 1

# What a process may wait for, a hundred years: timers and timeouts of Python and of the kernel end
# at 292 years. What is only stored may be longer, up to LONGEST_SECONDS.
LONGEST_WAIT = 100 * 365 * 86400.0

# Lists and dicts in each other. Python reads about 900 levels, fewer below many calls, and the Lua
# of Redis 1000.
MAX_NESTING = 512

Duration = float | timedelta


# ── durations ───────────────────────────────────────────────────────────────


def seconds_from(
    name: str, value: object, *, least: float = 0, most: float = LONGEST_SECONDS
) -> float:
    """Return a duration as seconds. Raises: UsageError unless it lies between these."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        message = f"{name} must be seconds or a timedelta, not {shown(value)}"
        raise UsageError(message)
    # Also false for nan. An integer may be larger than any float: it is compared first.
    if not least <= seconds <= most:
        message = f"{name} must be from {least:g} to {most:.0f} seconds, not {shown(value)}"
        raise UsageError(message)
    return float(seconds)


def positive_seconds(name: str, value: object, *, most: float = LONGEST_SECONDS) -> float:
    """Return a duration of a millisecond or more as seconds. Raises: UsageError."""
    seconds = seconds_from(name, value, most=most)
    # Below a millisecond the wire would say 0, which means none.
    if round(seconds * 1000) < 1:
        message = f"{name} must be a millisecond or more, not {shown(value)}"
        raise UsageError(message)
    return seconds


def waiting_seconds(name: str, value: object, *, least: float = 0) -> float:
    """Return how long this process itself may wait, as seconds. Raises: UsageError."""
    return seconds_from(name, value, least=least, most=LONGEST_WAIT)


# ── numbers, flags ──────────────────────────────────────────────────────────


def checked_whole(
    name: str, value: object, *, least: int = 0, limit: int = MAX_SAFE_INTEGER, hint: str = ""
) -> int:
    """Return an integer between these; floats are refused even when they are whole."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        message = f"{name} must be an integer, not {shown(value)}{hint}"
        raise UsageError(message)
    number = operator.index(value)
    if not least <= number <= limit:
        message = f"{name} must be between {least} and {limit}, not {shown(number)}{hint}"
        raise UsageError(message)
    return number


def checked_place(name: str, value: object) -> int:
    """Return a place in a list, counted from its end where it is negative: -1 is the last."""
    return checked_whole(name, value, least=-MAX_SAFE_INTEGER)


def checked_priority(name: str, value: object) -> int:
    """Return a priority that a score can hold; 0 is none."""
    return checked_whole(name, value, limit=MAX_PRIORITY)


def checked_flag(name: str, value: object) -> bool:
    """Return True or False; no other value stands for them."""
    if not isinstance(value, bool):
        message = f"{name} must be True or False, not {shown(value)}"
        raise UsageError(message)
    return value


# ── many ────────────────────────────────────────────────────────────────────


def checked_many(name: str, values: object) -> Iterable[Any]:
    """Return an iterable; text is refused, although it has letters to iterate over."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        message = f"{name} must be a list, not {shown(values)}"
        raise UsageError(message)
    return values


# ── text ────────────────────────────────────────────────────────────────────


def checked_text(name: str, value: object) -> str:
    """Return text of at least one character that UTF-8 can hold."""
    if not isinstance(value, str) or not value:
        message = f"{name} must be text and not empty, not {shown(value)}"
        raise UsageError(message)
    if not value.isascii():
        _refuse_surrogates(name, value)
    return value


def checked_label(name: str, value: object) -> str:
    """Return the name of something that has keys of its own: text without control characters."""
    label = checked_text(name, value)
    if not label.isprintable() and any(ord(each) < ord(" ") or each == "\x7f" for each in label):
        message = f"{name} must not contain control characters: {shown(value)}"
        raise UsageError(message)
    return label


def checked_client_part(name: str, value: object) -> str:
    """Return what goes as it is into a client name, which Redis wants in printable ASCII; or ''."""
    if not isinstance(value, str):
        message = f"{name} must be text, not {shown(value)}"
        raise UsageError(message)
    if not all("!" <= each <= "~" for each in value):
        message = (
            f"{name} {shown(value)} must be of printable ASCII characters, without spaces: Redis "
            "takes no others in the name of a connection, which this becomes part of"
        )
        raise UsageError(message)
    return value


def shown(value: object) -> str:
    """Return a value as an error message shows it: never long, whatever it is."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a caller's class, an integer of too many digits, deep lists
        return f"<{type(value).__name__}>"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


_MOST_SHOWN = 200


def _refuse_surrogates(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        message = f"{name} must be text that UTF-8 can hold, not {shown(value)}"
        raise UsageError(message) from error


# ── what stands in Redis ────────────────────────────────────────────────────

# The characters of a number in text.
_OF_NUMBERS = "+-.0123456789eE \t\r\n"


def number_from_wire(value: Any, most: float = MAX_SAFE_INTEGER) -> float | None:
    """Return the number that JavaScript would read, from ``-most`` to ``most``; None for none."""
    if isinstance(value, str) and value.strip(_OF_NUMBERS):
        return None  # Python would take ``1_000``, ``nan`` and ``inf``
    try:
        number = float(value)
    except OverflowError:
        return most if value > 0 else -most
    except (TypeError, ValueError):
        return None
    if number != number:  # noqa: PLR0124 - nan alone differs from itself
        return None
    return min(max(number, -most), most)


def whole_from_wire(value: Any) -> int | None:
    """Return the whole part of a number that is safe to count with; None for none."""
    if type(value) is int:
        return min(max(value, -MAX_SAFE_INTEGER), MAX_SAFE_INTEGER)
    number = number_from_wire(value)
    return None if number is None else math.trunc(number)


def count_from_wire(value: Any) -> int:
    """Return a whole number from 0; 0 for none and for what is no number."""
    return max(whole_from_wire(value) or 0, 0)


def seconds_from_wire(value: Any, most: float = LONGEST_SECONDS) -> float | None:
    """Return milliseconds of the wire as seconds, from ``-most`` to ``most``; None for none."""
    number = number_from_wire(value, most * 1000)
    return None if number is None else number / 1000
