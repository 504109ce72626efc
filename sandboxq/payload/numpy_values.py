"""Values of numpy: scalars as the values of Python that they are, arrays as their bytes and back.

Without numpy: only whoever has such a value, or makes an array, imports it. A dtype that is not
plain numbers, times or text is refused both ways. The standard library alone at import: children
load this.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# Booleans, integers, floats, complex numbers, times, bytes and text of a fixed width.
_DTYPE = re.compile(
    r"[<>|=]?(b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SU][0-9]{1,9})"
    r"|[<>|=]?([mM]8)(\[[0-9]{0,9}[a-zA-Z]{1,7}\])?"
)
# What numpy takes, and what fits its sizes.
_MOST_DIMENSIONS = 64
_LONGEST_DIMENSION = 2**63 - 1

# ── scalars ─────────────────────────────────────────────────────────────────


def is_scalar(value: Any) -> bool:
    """Tell a numpy scalar, such as what ``argmax`` returns, without importing numpy."""
    return any(
        kind.__name__ == "generic" and kind.__module__ == "numpy" for kind in type(value).__mro__
    )


def plain_scalar(value: Any) -> Any:
    """Return the Python value of a numpy scalar: the ``default`` of every JSON encoder here.

    Raises: TypeError, in the words of ``json``, for anything else.
    """
    plain = value.item() if is_scalar(value) else value
    if type(plain) is type(value):  # no numpy scalar, or one that Python has no value for
        message = f"Object of type {type(value).__name__} is not JSON serializable"
        raise TypeError(message)
    return plain


def with_plain_keys(value: Any) -> Any:
    """Return the value with Python's own values for numpy scalars that are keys; else itself."""
    if isinstance(value, dict):
        keys = [key.item() if is_scalar(key) else key for key in value]
        items = [with_plain_keys(item) for item in value.values()]
        is_same = are_same(keys, value) and are_same(items, value.values())
        return value if is_same else dict(zip(keys, items, strict=True))
    if isinstance(value, (list, tuple)):
        items = [with_plain_keys(item) for item in value]
        return value if are_same(items, value) else items
    return value


def are_same(new: Iterable[Any], old: Iterable[Any]) -> bool:
    """Tell whether nothing was replaced: these are the same objects in the same order."""
    return all(one is other for one, other in zip(new, old, strict=True))


# ── arrays ──────────────────────────────────────────────────────────────────


def is_array(value: Any) -> bool:
    """Tell a numpy array, without importing numpy."""
    return any(
        kind.__name__ == "ndarray" and kind.__module__ == "numpy" for kind in type(value).__mro__
    )


def is_plain_dtype(dtype: str) -> bool:
    """Tell whether arrays of this dtype are nothing but their bytes."""
    return _DTYPE.fullmatch(dtype) is not None


def array_bytes(dtype: Any, shape: Any) -> int:
    """Return how many bytes an array has. Raises: ValueError when there can be no such array.

    Asked before anything is allocated, whoever says what the shape is.
    """
    match = _DTYPE.fullmatch(dtype) if isinstance(dtype, str) else None
    if match is None:
        message = f"dtype {dtype!r:.50} is not plain"
        raise ValueError(message)
    if not _is_shape(shape):
        message = f"{shape!r:.100} is no shape"
        raise ValueError(message)
    kind = match[1] or match[2]
    width = int(kind[1:]) * (4 if kind[0] == "U" else 1)
    count = math.prod(shape)
    if count and not width:
        message = f"dtype {dtype!r:.50} has no width"
        raise ValueError(message)
    return int(count * width)


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) <= _MOST_DIMENSIONS
        and all(type(each) is int and 0 <= each <= _LONGEST_DIMENSION for each in shape)
    )


def array_from(dtype: Any, shape: Any, raw: Any) -> Any:
    """Return an array that is a view of ``raw``.

    Raises: ValueError when dtype, shape and bytes do not fit; ImportError without numpy.
    """
    if array_bytes(dtype, shape) != memoryview(raw).nbytes:
        message = f"{memoryview(raw).nbytes} bytes are no array of {dtype} and shape {shape!r:.100}"
        raise ValueError(message)
    import numpy as np  # noqa: PLC0415 - only whoever is sent arrays needs it

    try:
        kind = np.dtype(dtype)
        if not len(raw):
            return np.empty(tuple(shape), kind)
        return np.frombuffer(raw, kind).reshape(shape)
    except (TypeError, OverflowError) as error:  # not on this machine, or of no unit
        message = f"numpy has no array of {dtype} and shape {shape!r:.100}: {error}"
        raise ValueError(message) from error
