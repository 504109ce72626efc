"""Values of Python as JSON, and back: a closed list of types, none of which can run code.

What JSON has stays as it is; other types are objects with one member, such as ``{"$tuple": [1]}``.
Bytes and the buffers of numpy arrays are base64; large ones stay what they are, and travel beside
the JSON (payload/binary.py).

What comes back was written by a child, or by another client of Redis: decoding it takes no more
memory than it has bytes, and returns a value or raises UsageError.
"""

from __future__ import annotations

import base64
import builtins
import collections
import datetime as dt
import decimal
import fractions
import json
import math
import pathlib
import re
import uuid
from typing import TYPE_CHECKING, Any

from sandboxq.errors import UsageError
from sandboxq.payload.numpy_values import array_from, is_array, is_plain_dtype, is_scalar

if TYPE_CHECKING:
    from collections.abc import Callable

# Bytes. Below, reading them in a round trip of its own costs more than base64.
LARGE = 64 * 1024
_PLAIN = (type(None), bool, int, str)
# Levels of JSON; a tuple or a set has two. The decoder takes four frames for each.
MOST_LEVELS = 200
# A set or dict of so many is looked at before it is made: items whose hashes are all the same,
# which anyone can send, would take minutes.
_WORTH_A_LOOK = 1000
_MOST_COLLISIONS = 100
# Digits of a fraction's exponent: 1e999999 has a million digits.
_FRACTION = re.compile(r"-?[0-9]{1,4300}(/[0-9]{1,4300})?")
# Type, tag, and the way there and back; what is inside of a container is encoded in its turn.
_Row = tuple[type, "Callable[[Any], Any]", "Callable[[Any], Any]"]


def _of(kind: type, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return ``make`` for what is of one type: ``bytearray(10**12)`` would be a terabyte."""

    def checked(inner: Any) -> Any:
        if type(inner) is not kind:
            message = f"it holds {type(inner).__name__}, not {kind.__name__}"
            raise TypeError(message)
        return make(inner)

    return checked


def _hashed(items: list[Any], make: Callable[[list[Any]], Any]) -> Any:
    """Return a set or dict of these, unless their hashes are chosen to be the same."""
    if len(items) > _WORTH_A_LOOK:
        keys = [item[0] for item in items] if make is dict else items
        _, count = collections.Counter(map(hash, keys)).most_common(1)[0]
        if count > _MOST_COLLISIONS:
            message = f"{count} of its items have the same hash"
            raise ValueError(message)
    return make(items)


def _fraction(text: str) -> fractions.Fraction:
    if not _FRACTION.fullmatch(text):
        message = f"{text!r:.50} is no fraction"
        raise ValueError(message)
    return fractions.Fraction(text)


_TABLE: dict[str, _Row] = {
    "$bytes": (bytes, lambda raw: base64.b64encode(raw).decode(), _of(str, base64.b64decode)),
    "$tuple": (tuple, list, _of(list, tuple)),
    "$set": (set, list, _of(list, lambda items: _hashed(items, set))),
    "$frozenset": (frozenset, list, _of(list, lambda items: _hashed(items, frozenset))),
    "$deque": (collections.deque, list, _of(list, collections.deque)),
    "$bytearray": (bytearray, bytes, _of(bytes, bytearray)),
    "$complex": (complex, repr, _of(str, complex)),
    "$datetime": (dt.datetime, dt.datetime.isoformat, _of(str, dt.datetime.fromisoformat)),
    "$date": (dt.date, dt.date.isoformat, _of(str, dt.date.fromisoformat)),
    "$time": (dt.time, dt.time.isoformat, _of(str, dt.time.fromisoformat)),
    "$timedelta": (
        dt.timedelta,
        lambda delta: [delta.days, delta.seconds, delta.microseconds],
        _of(list, lambda parts: dt.timedelta(*parts)),
    ),
    "$decimal": (decimal.Decimal, str, _of(str, decimal.Decimal)),
    "$fraction": (fractions.Fraction, str, _of(str, _fraction)),
    "$uuid": (uuid.UUID, str, _of(str, uuid.UUID)),
    "$path": (type(pathlib.Path()), str, _of(str, pathlib.Path)),
    "$purepath": (pathlib.PurePosixPath, str, _of(str, pathlib.PurePosixPath)),
}
_TAGS = {row[0]: (tag, row[1]) for tag, row in _TABLE.items()}


def tagged_from_value(value: Any) -> Any:
    """Return JSON with tags.

    Raises: UsageError naming the first thing that cannot travel, or that it is nested too deep.
    """
    return _tagged(value, "$", MOST_LEVELS)


def _tagged(value: Any, place: str, levels: int) -> Any:
    """Return a value that may have so many levels of JSON."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if levels <= 0:
        message = f"a value nested more than {MOST_LEVELS} levels deep cannot come back"
        raise UsageError(message)
    if kind is list:
        return [_tagged(item, f"{place}[{i}]", levels - 1) for i, item in enumerate(value)]
    if kind is dict:
        return _tagged_dict(value, place, levels)
    if kind in _TAGS and not (kind is bytes and len(value) >= LARGE):
        tag, encode = _TAGS[kind]
        return {tag: _tagged(encode(value), place, levels - 1)}
    return _tagged_foreign(value, place, levels)


def _tagged_foreign(value: Any, place: str, levels: int) -> Any:
    """Return what stands for large bytes, or a value of numpy, which may not be installed."""
    kind = type(value)
    if kind is bytes:
        return value
    if kind.__module__ == "numpy" and is_array(value) and is_plain_dtype(value.dtype.str):
        if value.nbytes >= LARGE:
            return value
        row = [value.dtype.str, list(value.shape), value.tobytes()]
        return {"$array": _tagged(row, place, levels - 1)}
    if is_scalar(value) and type(plain := value.item()) is not kind:
        return _tagged(plain, place, levels)
    message = (
        f"a value of type {kind.__module__}.{kind.__qualname__} at {place} cannot come back from a "
        "child: return JSON types, bytes, arrays, tuples, sets, dates, decimals, paths or UUIDs"
    )
    raise UsageError(message)


def _tagged_dict(value: dict[Any, Any], place: str, levels: int) -> Any:
    if all(type(key) is str for key in value) and not any(key.startswith("$") for key in value):
        return {key: _tagged(item, f"{place}.{key}", levels - 1) for key, item in value.items()}
    rows = [_tagged([key, item], place, levels - 2) for key, item in value.items()]
    return {"$dict": rows}


def value_from_tagged(tagged: Any) -> Any:
    """Return the value. Raises: UsageError for what no ``tagged_from_value`` has made."""
    try:
        return _Untagger().value(tagged, MOST_LEVELS)
    except (RecursionError, MemoryError) as error:
        message = f"a result is too deep or too large: {type(error).__name__}"
        raise UsageError(message) from error


class _Untagger:
    """Makes one value."""

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}  # of arrays that are there more than once

    def value(self, tagged: Any, levels: int) -> Any:
        """Return a value that may have so many levels of JSON."""
        if isinstance(tagged, (list, dict)) and levels < 0:
            message = f"a result is nested more than {MOST_LEVELS} levels deep"
            raise UsageError(message)
        if isinstance(tagged, list):
            return [self.value(item, levels - 1) for item in tagged]
        if isinstance(tagged, memoryview):
            return bytes(tagged)
        if is_array(tagged) and not tagged.flags.writeable:
            return self._own(tagged)
        if not isinstance(tagged, dict):
            return tagged
        if len(tagged) == 1:
            ((tag, inner),) = tagged.items()
            if tag.startswith("$"):
                return self._untagged(tag, inner, levels - 1)
        return {key: self.value(item, levels - 1) for key, item in tagged.items()}

    def _own(self, array: Any) -> Any:
        """Return a copy: as other values, it is the caller's own."""
        if id(array) not in self._copies:
            self._copies[id(array)] = array.copy()
        return self._copies[id(array)]

    def _untagged(self, tag: str, inner: Any, levels: int) -> Any:
        try:
            plain = self.value(inner, levels)
            if tag == "$dict":
                return _hashed([(key, item) for key, item in plain], dict)
            if tag == "$float":
                return float(plain)
            if tag == "$array":
                return _array(*plain)
            return _TABLE[tag][2](plain)
        except (
            LookupError, TypeError, ValueError, ArithmeticError, AttributeError, ImportError
        ) as error:  # fmt: skip
            message = f"{tag!r:.50} in a result is nothing that a child of this version writes: "
            raise UsageError(message + f"{error!s:.200}") from error


def tagged_from_exception(error: BaseException) -> list[Any] | None:
    """Return class and arguments of a built-in exception; None for what must come back as text."""
    kind = type(error)
    if not _is_returnable(kind):
        return None
    try:
        reduced: Any = error.__reduce__()  # what makes it anew: an OSError's file name, too
        row = [kind.__name__, *(tagged_from_value(each) for each in reduced[1])]
        json.dumps(row)  # the row is text: what is large cannot travel in it
    except Exception:  # noqa: BLE001 - an argument's own code; its text comes back instead
        return None
    return row


def exception_from_tagged(row: Any) -> Exception | None:
    """Return a built-in exception, None when this is none."""
    if not (isinstance(row, list) and row and isinstance(row[0], str)):
        return None
    kind = getattr(builtins, row[0], None)
    if not (isinstance(kind, type) and _is_returnable(kind)):
        return None
    try:
        error = kind(*(value_from_tagged(each) for each in row[1:]))
    except Exception:  # noqa: BLE001 - what a class of the language makes of arguments that anyone chose
        return None
    return error if isinstance(error, Exception) else None


def _is_returnable(kind: type) -> bool:
    """Tell an Exception of the language; SystemExit and KeyboardInterrupt stay where they are.

    StopIteration too: where it is raised into a coroutine or a generator, it ends that quietly.
    """
    return (
        issubclass(kind, Exception)
        and not issubclass(kind, StopIteration)
        and getattr(builtins, kind.__name__, None) is kind
    )


def _array(dtype: str, shape: list[int], raw: bytes) -> Any:
    if type(raw) is not bytes:
        message = f"an array of {type(raw).__name__}"
        raise TypeError(message)
    return array_from(dtype, shape, bytearray(raw))
