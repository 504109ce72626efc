"""Values as JSON has them, and back as annotations say.

plain:  a dataclass, model, enum, date, path, set, … ──► what JSON can say; the rest stays as it is
fitted: that, and an annotation ──► the dataclass, model, enum, … or Misfit with the place
"""

from __future__ import annotations

import collections.abc as cabc
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import pathlib
import sys
import types
import typing
import uuid
from typing import Any, NotRequired, Required

# Of a long value, in a message.
_SHOWN = 80
# Errors of pydantic in one message.
_MOST_ERRORS = 5
_TEXTS = (uuid.UUID, pathlib.PurePath, decimal.Decimal)
_TIMES = (dt.datetime, dt.date, dt.time)
_LISTS: dict[Any, type] = {
    **dict.fromkeys((list, cabc.Sequence, cabc.Iterable, cabc.Collection), list),
    **dict.fromkeys((cabc.MutableSequence,), list),
    **dict.fromkeys((set, cabc.Set, cabc.MutableSet), set),
    frozenset: frozenset,
}
_MAPPINGS = (dict, cabc.Mapping, cabc.MutableMapping)


class Misfit(ValueError):
    """A value does not fit an annotation; the text begins with its place."""


def plain(value: Any) -> Any:  # noqa: PLR0911 - one line for each kind of value
    """Return a value as JSON has it; what is unknown here (arrays, bytes) stays as it is."""
    match value:
        case enum.Enum():
            return plain(value.value)
        case None | bool() | int() | float() | str():
            return value
        case cabc.Mapping():
            return {
                key if type(key) is str else _key_text(key): plain(each)
                for key, each in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case dt.timedelta():
            return value.total_seconds()
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case _ if isinstance(value, _TEXTS):
            return str(value)
        case _ if _is_model(type(value)):
            return value.model_dump(mode="json")
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value) if field.init]
            return {name: plain(getattr(value, name)) for name in names}
        case _:
            return value


def _key_text(key: Any) -> Any:
    """Return a key as JSON has it, always text: what is checked here is what a child gets."""
    key = plain(key)
    return json.dumps(key) if key is None or isinstance(key, (bool, int, float)) else key


def fitted(annotation: Any, value: Any, place: str) -> Any:
    """Return a value that came from JSON as an annotation says.

    Raises: Misfit.
    """
    if annotation is Any or annotation is object or isinstance(annotation, typing.TypeVar):
        return value
    if annotation is None or annotation is types.NoneType:
        return _exactly(value is None, value, "null", place)
    if isinstance(annotation, typing.NewType):
        return fitted(annotation.__supertype__, value, place)
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return _of_class(annotation, value, place)
    if hasattr(annotation, "__value__"):  # type X = …
        return fitted(annotation.__value__, value, place)
    return _of_form(annotation, value, place)


@functools.lru_cache(maxsize=1024)
def _hints_of(kind: Any) -> dict[str, Any]:
    """Return the annotations of a class; reading them costs more than a job's arguments."""
    return typing.get_type_hints(kind, include_extras=True)


def _of_form(annotation: Any, value: Any, place: str) -> Any:  # noqa: PLR0911 - one for each form
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Required, NotRequired):
        return fitted(parts[0], value, place)
    if origin is typing.Annotated:
        if any(_is_of_pydantic(each) for each in parts[1:]):
            return _by_pydantic(annotation, value, place)
        return fitted(parts[0], value, place)
    if origin in (typing.Union, types.UnionType):
        return _of_union(parts, value, place)
    if origin is typing.Literal:
        same = [each for each in parts if type(plain(each)) is type(value) and plain(each) == value]
        _exactly(bool(same), value, f"one of {_listed(parts)}", place)
        return same[0]
    if origin in _LISTS:
        return _LISTS[origin](_items(parts[0], value, place))
    if origin is tuple:
        return _of_tuple(parts, value, place)
    if origin in _MAPPINGS:
        return _of_mapping(parts, value, place)
    if isinstance(origin, type):
        return _of_class(origin, value, place)
    return value


def _of_class(kind: type, value: Any, place: str) -> Any:  # noqa: PLR0911 - one for each class
    """Fit a class that has no parameters."""
    if kind in (bool, str):
        return _exactly(isinstance(value, kind), value, kind.__name__, place)
    if kind in (int, float):
        accepted = (int,) if kind is int else (int, float)
        is_number = isinstance(value, accepted) and not isinstance(value, bool)
        return kind(_exactly(is_number, value, kind.__name__, place))
    if kind in (bytes, bytearray, memoryview):
        return _of_bytes(kind, value, place)
    if kind in _LISTS:
        return _LISTS[kind](_items(Any, value, place))
    if kind in _MAPPINGS:
        return _exactly(isinstance(value, cabc.Mapping), value, "an object", place)
    if _is_model(kind) or hasattr(kind, "__pydantic_validator__"):
        return _by_pydantic(kind, value, place)
    if typing.is_typeddict(kind):
        return _of_typed_dict(kind, value, place)
    if dataclasses.is_dataclass(kind):
        return _made(kind, _of_fields(kind, value, place), place)
    return _of_scalar(kind, value, place)


def _of_scalar(kind: type, value: Any, place: str) -> Any:  # noqa: PLR0911 - as above
    """Fit what is written as text or a number, or what cannot be written and came as it is."""
    if issubclass(kind, enum.Enum):
        same = [each for each in kind if plain(each) == value]
        _exactly(bool(same), value, f"one of {_listed(kind)}", place)
        return same[0]
    if issubclass(kind, tuple):
        return _of_tuple_class(kind, value, place)
    try:
        if issubclass(kind, dt.timedelta):
            return kind(seconds=_of_class(float, value, place))
        if issubclass(kind, _TIMES):
            return kind.fromisoformat(_of_class(str, value, place))
        if issubclass(kind, _TEXTS):
            return kind(_of_class(str, value, place))
    except Misfit:
        raise
    except (ValueError, ArithmeticError, OverflowError):
        return _exactly(False, value, kind.__name__, place)  # noqa: FBT003 - it is not
    try:
        is_one = isinstance(value, kind)
    except TypeError:  # a protocol that cannot be asked
        return value
    return _exactly(is_one, value, kind.__name__, place)


def _exactly(is_one: bool, value: Any, wanted: str, place: str) -> Any:  # noqa: FBT001 - it is the question
    if not is_one:
        shown = repr(value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
        message = f"{place} must be {wanted}, not {shown}"
        raise Misfit(message)
    return value


def _listed(values: cabc.Iterable[Any]) -> str:
    return ", ".join(repr(plain(each)) for each in values)


def _items(annotation: Any, value: Any, place: str) -> list[Any]:
    _exactly(isinstance(value, (list, tuple)), value, "a list", place)
    return [fitted(annotation, each, f"{place}[{n}]") for n, each in enumerate(value)]


def _of_tuple(parts: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    if len(parts) == 2 and parts[1] is Ellipsis:  # noqa: PLR2004 - tuple[int, ...]
        return tuple(_items(parts[0], value, place))
    has_size = isinstance(value, (list, tuple)) and len(value) == len(parts)
    _exactly(has_size, value, f"a list of {len(parts)}", place)
    pairs = zip(parts, value, strict=True)
    return tuple(fitted(part, each, f"{place}[{n}]") for n, (part, each) in enumerate(pairs))


def _of_tuple_class(kind: Any, value: Any, place: str) -> Any:
    if not hasattr(kind, "_fields"):
        return tuple(_items(Any, value, place))
    hints = _hints_of(kind)
    return kind(*_of_tuple(tuple(hints.get(each, Any) for each in kind._fields), value, place))


def _of_mapping(parts: tuple[Any, ...], value: Any, place: str) -> dict[Any, Any]:
    _exactly(isinstance(value, cabc.Mapping), value, "an object", place)
    keys, values = parts
    return {
        _key(keys, key, place): fitted(values, each, f"{place}.{key}")
        for key, each in value.items()
    }


def _key(annotation: Any, key: Any, place: str) -> Any:
    """Fit a key, which JSON has as text whatever it was."""
    where = f"the key {key!r} of {place}"
    try:
        return fitted(annotation, key, where)
    except Misfit:
        read = _from_key_text(key)
        if read is key:
            raise
        return fitted(annotation, read, where)


def _from_key_text(key: Any) -> Any:
    """Return the number, bool or None that a key was; else the key itself."""
    try:
        read = json.loads(key)
    except (TypeError, ValueError):
        return key
    return key if isinstance(read, (str, list, dict)) else read


def _of_union(parts: tuple[Any, ...], value: Any, place: str) -> Any:
    reasons = []
    for part in sorted(parts, key=lambda part: part is not type(value)):  # its own class first
        try:
            return fitted(part, value, place)
        except Misfit as error:
            reasons.append(str(error).removeprefix(f"{place} "))
    told = [each for part, each in zip(parts, reasons, strict=False) if part is not types.NoneType]
    message = f"{place} {'; or '.join(told if len(parts) == 2 else reasons)}"  # noqa: PLR2004 - X | None
    raise Misfit(message)


def _of_bytes(kind: Any, value: Any, place: str) -> Any:
    if isinstance(value, cabc.Mapping) and value.get("type") == "Buffer":  # as Node writes them
        try:
            return kind(bytes(value["data"]))
        except (KeyError, TypeError, ValueError):
            pass
    _exactly(isinstance(value, (bytes, bytearray, memoryview)), value, "bytes", place)
    return value if isinstance(value, kind) else kind(value)


def _of_fields(kind: Any, value: Any, place: str) -> dict[str, Any]:
    """Return the arguments of a dataclass from an object."""
    _exactly(isinstance(value, cabc.Mapping), value, f"an object ({kind.__name__})", place)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    hints = _hints_of(kind)
    needed = [
        name
        for name, field in fields.items()
        if field.default is field.default_factory is dataclasses.MISSING
    ]
    _refuse_names(value, needed, fields, place)
    return {name: fitted(hints[name], each, f"{place}.{name}") for name, each in value.items()}


def _made(kind: Any, fields: dict[str, Any], place: str) -> Any:
    """Make a dataclass, whose ``__post_init__`` may refuse the values."""
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        message = f"{place}: {error}"
        raise Misfit(message) from error


def _of_typed_dict(kind: Any, value: Any, place: str) -> dict[str, Any]:
    _exactly(isinstance(value, cabc.Mapping), value, f"an object ({kind.__name__})", place)
    hints = _hints_of(kind)
    # The class itself cannot tell where its annotations are texts.
    optional = {name for name, hint in hints.items() if typing.get_origin(hint) is NotRequired}
    _refuse_names(value, sorted(kind.__required_keys__ - optional), hints, place)
    return {name: fitted(hints[name], each, f"{place}.{name}") for name, each in value.items()}


def _refuse_names(
    value: cabc.Mapping[str, Any], needed: list[str], known: cabc.Container[str], place: str
) -> None:
    missing = [name for name in needed if name not in value]
    if missing:
        message = f"{place}.{missing[0]} is missing"
        raise Misfit(message)
    unknown = [name for name in value if name not in known]
    if unknown:
        message = f"{place} has no {unknown[0]!r}"
        raise Misfit(message)


# ── pydantic: never imported here, as whoever has a model has imported it ──


def _is_model(kind: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


def _is_of_pydantic(metadata: object) -> bool:
    return type(metadata).__module__.partition(".")[0] in ("pydantic", "annotated_types")


def _by_pydantic(annotation: Any, value: Any, place: str) -> Any:
    pydantic = sys.modules["pydantic"]
    try:
        return pydantic.TypeAdapter(annotation).validate_python(value, **_by_both(pydantic.VERSION))
    except pydantic.ValidationError as error:
        rows = error.errors(include_url=False, include_context=False, include_input=False)
        told = [f"{_path(place, row['loc'])}: {row['msg']}" for row in rows[:_MOST_ERRORS]]
        more = len(rows) - len(told)
        raise Misfit("; ".join([*told, *([f"{more} more"] if more else [])])) from None


@functools.cache
def _by_both(version: str) -> dict[str, bool]:
    """Return what takes names of fields, which ``plain`` writes, beside aliases (since 2.11)."""
    is_known = tuple(map(int, version.split(".")[:2])) >= (2, 11)
    return {"by_alias": True, "by_name": True} if is_known else {}


def _path(place: str, parts: tuple[str | int, ...]) -> str:
    return place + "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in parts)
