"""Strict JSON, in and out of user code, with errors that name the place.

Jobs that a running job adds are values too: it asks its worker, which has Redis.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import struct
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.errors import ResultTooLarge, TooLarge, UsageError
from sandboxq.payload.numpy_values import is_scalar, plain_scalar, with_plain_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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

# Questions to the worker, beside those of sandboxq.model.dependencies.
ADD = 7
MESSAGES = 8
# One call must not keep Redis, or the worker's event loop, from others for long.
MOST_JOBS = 1000
MOST_BYTES = 8 << 20
# Names, queues and options of all jobs, which the worker reads at once.
MOST_HEADER = 1 << 20
# Under which an option's class travels, for those that are objects: Backoff, Keep, ….
CLASS_MEMBER = "sq:class"
_HEADER = struct.Struct("<I")
_ENTRY_SIZES = (2, 3)


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


class AddedJob(NamedTuple):
    """A job that was added, or the one found in its place (``job_id``, ``deduplication``)."""

    id: str
    name: str
    queue_name: str


class JobQueue:
    """A queue of the worker's Redis, as a running job reaches it: it can add, and nothing else.

    In an ``async def`` processor ``await`` each method. The jobs are added while this attempt holds
    its lock, all of one call or none, at most 1,000 jobs and 8 MB of data. Their ids are UUIDs
    unless ``job_id`` is given.
    """

    __slots__ = ("_ask", "name")

    def __init__(
        self, name: str, ask: Callable[[bytes, Callable[[Sequence[bytes]], Any]], Any]
    ) -> None:
        """Add to the queue of this name; ``ask`` sends the question and decodes the answer."""
        self.name = name
        self._ask = ask

    def add(self, name: str, data: Any = None, **options: Any) -> Any:
        """Add one job with JSON ``data`` and return its AddedJob; options are those of Queue.add.

        Raises:
            UsageError: a name or an option cannot be right; nothing was added.
            QueueError: the worker refused (policy, lock lost, Redis), and says why.
        """
        node = {"name": name, "queue": self.name, "data": data, "opts": options}
        return add_nodes([node], self._ask, lambda added: added[0])

    def add_bulk(self, entries: Iterable[Sequence[Any]]) -> Any:
        """Add many jobs, each ``(name, data)`` or ``(name, data, options)``; return AddedJobs."""
        return add_nodes([self._node(entry) for entry in entries], self._ask, lambda added: added)

    def _node(self, entry: object) -> dict[str, Any]:
        if not isinstance(entry, (tuple, list)) or len(entry) not in _ENTRY_SIZES:
            message = f"an entry must be (name, data) or (name, data, options), not {entry!r}"
            raise UsageError(message)
        name, data, *options = entry
        return {"name": name, "queue": self.name, "data": data, "opts": dict(*options)}


def add_nodes(
    nodes: Sequence[Mapping[str, Any]],
    ask: Callable[[bytes, Callable[[Sequence[bytes]], Any]], Any],
    result: Callable[[list[AddedJob]], Any],
) -> Any:
    """Ask for these jobs and those below them; ``result`` picks what the caller gets."""
    request = encode_nodes(nodes)
    flat = list(_level_by_level(nodes))

    def decode(replies: Sequence[bytes]) -> Any:
        return result(
            [
                AddedJob(job_id.decode(errors="replace"), str(node["name"]), str(node["queue"]))
                for job_id, node in zip(replies, flat, strict=True)
            ]
        )

    return ask(request, decode)


def encode_nodes(nodes: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the request: a JSON header, in which ``data`` is a length, then the data of all.

    Raises: UsageError when it is more than one call may add, or an option has no form in JSON.
    """
    blobs: list[bytes] = []
    header = [_with_lengths(node, blobs) for node in nodes]
    try:
        text = json.dumps(header, default=_plain_option, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"what is to be added cannot be sent: {error}"
        raise UsageError(message) from error
    if len(blobs) > MOST_JOBS:
        message = f"one call may add {MOST_JOBS} jobs, not {len(blobs)}: add them in several"
        raise UsageError(message)
    if len(text) > MOST_HEADER:
        message = (
            f"names and options of one call may have {MOST_HEADER} bytes, not {len(text)}: add "
            "fewer jobs at once"
        )
        raise UsageError(message)
    size = len(text) + sum(map(len, blobs))
    if size > MOST_BYTES:
        message = (
            f"one call may add {MOST_BYTES} bytes, not {size}: add fewer at once, or store the "
            "data elsewhere and add where it is"
        )
        raise UsageError(message)
    return b"".join((_HEADER.pack(len(text)), text, *blobs))


def _with_lengths(node: Mapping[str, Any], blobs: list[bytes]) -> dict[str, Any]:
    try:
        blob = json_from_value(node.get("data"), f"the data of {node.get('name')!r}")
    except NotJson as error:
        raise UsageError(str(error)) from error
    blobs.append(blob)
    children = node.get("children") or ()
    return {
        **node,
        "data": len(blob),
        **({"children": [_with_lengths(each, blobs) for each in children]} if children else {}),
    }


def _level_by_level(nodes: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Yield all nodes, parents before their children: the order of the answer."""
    level = list(nodes)
    while level:
        yield from level
        level = [child for node in level for child in node.get("children") or ()]


def _plain_option(value: object) -> Any:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return {CLASS_MEMBER: type(value).__name__, **plain}
    message = f"an option of type {type(value).__name__}"
    raise TypeError(message)


def decode_header(request: bytes) -> tuple[bytes, memoryview]:
    """Return the JSON header and the data behind it. Raises: struct.error."""
    (size,) = _HEADER.unpack_from(request)
    start = _HEADER.size + size
    return request[_HEADER.size : start], memoryview(request)[start:]


def texts_from(reply: Sequence[bytes]) -> list[str]:
    """Return the texts in the answer to MESSAGES."""
    return [text.decode("utf-8", "replace") for text in reply]
