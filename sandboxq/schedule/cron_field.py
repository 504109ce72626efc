"""One field of a cron pattern: the numbers that it allows, in Node's dialect."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DAYS_PER_WEEK = 7

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WORD = re.compile("[a-z]{3}", re.IGNORECASE)
_HASHED = re.compile(r"H(?:\(([0-9]+)-([0-9]+)\))?(?:/([0-9]+))?")
_LAST = re.compile("([0-7]?)L")
# A whole member of a list, perhaps with a step.
_WILDCARD = re.compile("(^|,)[*?](?=/|,|$)")


class Field(NamedTuple):
    """One place of a pattern: its name in messages, its range, and the letters it may have."""

    name: str
    low: int
    high: int
    letters: str = ""
    words: tuple[str, ...] = ()


SECOND = Field("second", 0, 59)
MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DAY = Field("day of month", 1, 31, "L")
MONTH = Field("month", 1, 12, words=("", *_MONTHS))
WEEKDAY = Field("day of week", 0, 7, "L", words=_WEEKDAYS)


def refuse(field: Field, text: str, reason: str) -> None:
    """Raise a UsageError that says which field is wrong, and why."""
    message = f"{field.name} {text!r}: {reason}"
    raise UsageError(message)


def numbers_of(field: Field, text: str, drawn: float) -> tuple[int, ...]:
    """Return the numbers that a field allows, ascending."""
    return tuple(sorted(values_of(field, text, drawn)[0]))


def values_of(field: Field, text: str, drawn: float) -> tuple[list[int], list[str]]:
    """Return the numbers that a field allows, and what stands before each L in it."""
    plain = _WILDCARD.sub(rf"\g<1>{field.low}-{field.high}", _without_words(field, text))
    plain = _HASHED.sub(lambda match: _hashed(field, text, match, drawn), plain)
    if not re.fullmatch(f"[0-9,/{field.letters}-]+", plain):
        refuse(field, text, "a character that is not allowed here")
    numbers: list[int] = []
    lasts: list[str] = []
    for part in plain.split(","):
        last = _LAST.fullmatch(part)
        if last and not (last[1] and field is DAY):
            lasts.append(last[1])
        else:
            numbers += _part(field, text, part)
    if len({*numbers}) + len({*lasts}) < len(numbers) + len(lasts):
        refuse(field, text, "a value is given twice")
    return numbers, lasts


def _without_words(field: Field, text: str) -> str:
    def number(match: re.Match[str]) -> str:
        word = match[0].lower()
        if word not in field.words:
            refuse(field, text, f"{match[0]} is no {field.name}")
        return str(field.words.index(word))

    return _WORD.sub(number, text) if field.words else text


def _part(field: Field, text: str, part: str) -> Sequence[int]:
    """Return the values of one member of a list: ``5``, ``1-5``, ``1-30/10`` or ``5/10``."""
    match = re.fullmatch("([0-9]+)(?:-([0-9]+))?(?:/([0-9]+))?", part)
    if match is None:
        refuse(field, text, f"{part!r} is no number, range or step")
        return ()
    low, step = int(match[1]), int(match[3] or 1)
    high = int(match[2]) if match[2] else field.high if match[3] else low
    if not field.low <= low <= high <= field.high:
        refuse(field, text, f"must ascend and be between {field.low} and {field.high}")
    if step < 1:
        refuse(field, text, "a step must be 1 or more")
    if field is not WEEKDAY:
        return range(low, high + 1, step)
    if match[2] is None and match[3] is None:
        return (low % DAYS_PER_WEEK,)
    # 7 is Sunday too; kept beside the 0, so that a second Sunday is found as Node finds it.
    days = [*range(low, high + 1, step)]
    return [0, *days] if days[-1] == DAYS_PER_WEEK and low else days


def _hashed(field: Field, text: str, match: re.Match[str], drawn: float) -> str:
    """Return what ``H``, ``H/5``, ``H(1-9)`` or ``H(1-9)/5`` stands for."""
    low, high = field.low, field.high
    if match[1]:
        low, high = max(low, int(match[1])), min(high, int(match[2]))
        if low > high or int(match[1]) > int(match[2]):
            refuse(field, text, f"must ascend and be between {field.low} and {field.high}")
    one = str(int(drawn * (high - low + 1)) + low)
    if not match[3]:
        return one
    step = int(match[3])
    if step < 1:
        refuse(field, text, "a step must be 1 or more")
    first = low // step * step + int(drawn * step)
    values = [str(value) for value in range(first, high + 1, step) if value >= low]
    return ",".join(values) or one


def random_numbers(seed: str) -> Callable[[], float]:
    """Return the numbers from 0 to 1 that Node draws for this seed (FNV-1a, then Mulberry32)."""
    mask = 0xFFFF_FFFF
    state = 2166136261
    encoded = seed.encode("utf-16-le", "surrogatepass")
    for low, high in zip(encoded[::2], encoded[1::2], strict=True):
        state = (state ^ (low | high << 8)) * 16777619 & mask

    def draws() -> Iterator[float]:
        now = state
        while True:
            now = (now + 0x6D2B79F5) & mask
            mixed = (now ^ now >> 15) * (now | 1) & mask
            mixed ^= (mixed + (mixed ^ mixed >> 7) * (mixed | 61)) & mask
            yield ((mixed ^ mixed >> 14) & mask) / 2**32

    return draws().__next__
