"""Strict JSON, in and out of user code, with errors that name the place."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from sandboxq.errors import ResultTooLarge, TooLarge, UsageError
from sandboxq.payload.scalars import is_scalar, plain_scalar, with_plain_keys

if TYPE_CHECKING:
    from sandboxq.payload.binary import Part

# Kept from the start: user code that puts another parser into the json module means its own data.
_decode = json.JSONDecoder().decode
_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain_scalar
).encode
_encode_ascii = json.JSONEncoder(
    allow_nan=False, separators=(",", ":"), default=plain_scalar
).encode


# Python reads no longer integers unless it is told to; the limit is each process's own.
_MOST_DIGITS = sys.int_info.default_max_str_digits


class NotJson(ValueError):
    """A value cannot be written as JSON, or text is none."""


def json_from_value(value: object, what: str) -> bytes:
    """Return ``value`` as JSON in UTF-8; a lone surrogate is written as an escape.

    Scalars of numpy are written as Python's own values.

    Raises:
        NotJson: names the type that is not JSON, and where in ``what`` it is.
    """
    if value is None:
        return b"null"
    try:
        raw = _encoded(value)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{what} is not JSON: {_complaint(value, error)}"
        raise NotJson(message) from error
    if len(raw) > _MOST_DIGITS and sys.get_int_max_str_digits() != _MOST_DIGITS:
        _refuse_long_numbers(raw, what)
    return raw


def _refuse_long_numbers(raw: bytes, what: str) -> None:
    """Raise NotJson for a number that a processor can write which has raised Python's limit."""

    def checked(digits: str) -> int:
        if len(digits.lstrip("-")) > _MOST_DIGITS:
            message = f"{what} has a number of {len(digits)} digits, which nobody else could read"
            raise NotJson(message)
        return 0

    json.loads(raw, parse_int=checked)


def _encoded(value: object) -> bytes:
    try:
        text = _encode(value)
    except TypeError:
        plain = with_plain_keys(value)
        if plain is value:
            raise
        return _encoded(plain)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _encode_ascii(value).encode()


def without_parts(value: object) -> tuple[bytes, list[Part]]:
    """Return a value as JSON with references, and the arrays and bytes that it had.

    Raises:
        NotJson: what is left has something else that is not JSON.
        ResultTooLarge: no worker could store that much.
    """
    from sandboxq.payload.binary import take_out  # noqa: PLC0415 - most values have none

    what = "the return value"
    try:
        plain, parts = take_out(value, what)
    except TooLarge as error:
        raise ResultTooLarge(str(error)) from error
    except UsageError as error:
        raise NotJson(str(error)) from error
    return (json_from_value(plain, what) if parts else b""), parts


def value_from_json(raw: bytes, what: str, *, empty: Any) -> Any:
    """Return the value of JSON text, ``empty`` for no bytes.

    Raises:
        NotJson: the text is no JSON; ``what`` says whose it is.
    """
    if not raw:
        return empty
    try:
        return _decode(raw.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        message = f"{what} is not JSON: {error}"
        raise NotJson(message) from error


def _complaint(value: object, error: Exception) -> str:
    try:
        return _first_foreign(value, "$", set()) or str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - a value's own code may raise anything
        return f"its own code raised {type(error).__name__}"


def _first_foreign(value: object, place: str, above: set[int]) -> str:
    """Return where the first thing is that JSON has no form for; nothing when all is well."""
    if value is None or isinstance(value, str | bool | int):
        return ""
    if is_scalar(value):
        value = value.item()  # type: ignore[attr-defined]  # of numpy
    if isinstance(value, float):
        return "" if value - value == 0 else f"{value} at {place}"
    if not isinstance(value, dict | list | tuple):
        return f"{_type_name(value)} at {place}"
    if id(value) in above:
        return f"{place} contains itself"
    above = above | {id(value)}
    try:
        return _first_foreign_inside(value, place, above)
    except RecursionError:
        return "it is nested too deeply"


def _first_foreign_inside(
    value: dict[Any, Any] | list[Any] | tuple[Any, ...], place: str, above: set[int]
) -> str:
    if isinstance(value, dict):
        for key, item in value.items():
            plain = key.item() if is_scalar(key) else key
            if not isinstance(plain, str | bool | int | float | None):
                return f"a key of type {_type_name(key)} at {place}"
            if found := _first_foreign(item, f"{place}.{key}", above):
                return found
        return ""
    for index, item in enumerate(value):
        if found := _first_foreign(item, f"{place}[{index}]", above):
            return found
    return ""


def _type_name(value: object) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
