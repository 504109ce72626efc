"""Scalars of numpy, such as what ``argmax`` returns, taken as the values of Python that they are.

Without numpy: only whoever has such a value has imported it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


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
