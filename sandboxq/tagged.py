"""Values of Python as JSON, and back: a closed list of types, none of which can run code.

What JSON has stays as it is; other types are objects with one member, such as ``{"$tuple": [1]}``.
Bytes and the buffers of numpy arrays are base64; large ones stay what they are, and travel beside
the JSON (binary.py).
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
import uuid
from typing import TYPE_CHECKING, Any

from sandboxq.binary import is_array, is_plain_dtype
from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

# Bytes. Below, reading them in a round trip of its own costs more than base64.
LARGE = 64 * 1024
_PLAIN = (type(None), bool, int, str)
# Type, tag, and the way there and back; what is inside of a container is encoded in its turn.
_Row = tuple[type, "Callable[[Any], Any]", "Callable[[Any], Any]"]
_TABLE: dict[str, _Row] = {
    "$bytes": (bytes, lambda raw: base64.b64encode(raw).decode(), base64.b64decode),
    "$tuple": (tuple, list, tuple),
    "$set": (set, list, set),
    "$frozenset": (frozenset, list, frozenset),
    "$deque": (collections.deque, list, collections.deque),
    "$bytearray": (bytearray, bytes, bytearray),
    "$complex": (complex, repr, complex),
    "$datetime": (dt.datetime, dt.datetime.isoformat, dt.datetime.fromisoformat),
    "$date": (dt.date, dt.date.isoformat, dt.date.fromisoformat),
    "$time": (dt.time, dt.time.isoformat, dt.time.fromisoformat),
    "$timedelta": (
        dt.timedelta,
        lambda delta: [delta.days, delta.seconds, delta.microseconds],
        lambda parts: dt.timedelta(*parts),
    ),
    "$decimal": (decimal.Decimal, str, decimal.Decimal),
    "$fraction": (fractions.Fraction, str, fractions.Fraction),
    "$uuid": (uuid.UUID, str, uuid.UUID),
    "$path": (type(pathlib.Path()), str, pathlib.Path),
    "$purepath": (pathlib.PurePosixPath, str, pathlib.PurePosixPath),
}
_TAGS = {row[0]: (tag, row[1]) for tag, row in _TABLE.items()}


def tagged_from_value(value: Any, place: str = "$") -> Any:
    """Return JSON with tags. Raises: UsageError naming the first thing that cannot travel."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list:
        return [tagged_from_value(item, f"{place}[{i}]") for i, item in enumerate(value)]
    if kind is dict:
        return _tagged_dict(value, place)
    if kind in _TAGS and not (kind is bytes and len(value) >= LARGE):
        tag, encode = _TAGS[kind]
        return {tag: tagged_from_value(encode(value), place)}
    return _tagged_foreign(value, kind, place)


def _tagged_foreign(value: Any, kind: type, place: str) -> Any:
    """Return what stands for large bytes, or a value of numpy, which may not be installed."""
    if kind is bytes:
        return value
    if kind.__module__ == "numpy" and is_array(value) and is_plain_dtype(value.dtype.str):
        if value.nbytes >= LARGE:
            return value
        row = [value.dtype.str, list(value.shape), value.tobytes()]
        return {"$array": tagged_from_value(row, place)}
    if _is_numpy_scalar(kind):
        return tagged_from_value(value.item(), place)
    message = (
        f"a value of type {kind.__module__}.{kind.__qualname__} at {place} cannot come back from a "
        "child: return JSON types, bytes, arrays, tuples, sets, dates, decimals, paths or UUIDs"
    )
    raise UsageError(message)


def value_from_tagged(tagged: Any) -> Any:
    """Return the value. Raises: UsageError for what no ``tagged_from_value`` has made."""
    if isinstance(tagged, list):
        return [value_from_tagged(item) for item in tagged]
    if isinstance(tagged, memoryview):
        return bytes(tagged)
    if is_array(tagged) and not tagged.flags.writeable:
        return tagged.copy()  # as other values, it is the caller's own
    if not isinstance(tagged, dict):
        return tagged
    if len(tagged) == 1:
        ((tag, inner),) = tagged.items()
        if tag.startswith("$"):
            return _untagged(tag, inner)
    return {key: value_from_tagged(item) for key, item in tagged.items()}


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
    except (TypeError, ValueError, UsageError):
        return None
    return error if isinstance(error, Exception) else None


def _is_returnable(kind: type) -> bool:
    """Tell an Exception of the language; SystemExit and KeyboardInterrupt stay where they are."""
    return issubclass(kind, Exception) and getattr(builtins, kind.__name__, None) is kind


def _tagged_dict(value: dict[Any, Any], place: str) -> Any:
    if all(type(key) is str for key in value) and not any(key.startswith("$") for key in value):
        return {key: tagged_from_value(item, f"{place}.{key}") for key, item in value.items()}
    return {"$dict": [tagged_from_value([key, item], place) for key, item in value.items()]}


def _untagged(tag: str, inner: Any) -> Any:
    try:
        if tag == "$dict":
            return {value_from_tagged(key): value_from_tagged(item) for key, item in inner}
        if tag == "$float":
            return float(inner)
        if tag == "$array":
            return _array(*value_from_tagged(inner))
        return _TABLE[tag][2](value_from_tagged(inner))
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        message = f"{tag!r} in a result is nothing that a child of this version writes: {error}"
        raise UsageError(message) from error


def _array(dtype: str, shape: list[int], raw: bytes) -> Any:
    if not is_plain_dtype(dtype):
        message = f"dtype {dtype!r} is not plain"
        raise ValueError(message)
    import numpy as np  # noqa: PLC0415 - only whoever is sent arrays needs it

    return np.frombuffer(bytearray(raw), np.dtype(dtype)).reshape(shape)


def _is_numpy_scalar(kind: type) -> bool:
    return any(each.__name__ == "generic" and each.__module__ == "numpy" for each in kind.__mro__)
