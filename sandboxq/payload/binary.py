"""Arrays and bytes inside of data and results: taken out of the JSON, and put back in.

    {"pixels": array, "k": 3}  ──take_out──►  {"pixels": {"sq:binary": "pixels", …}, "k": 3}
                                              + Parts: the buffers, one behind the other in a blob
    blob + table ──place_of, value_in──► arrays (numpy views) and memoryviews

The blob is one binary value; each part begins at a multiple of ALIGNMENT. Its table says what is in
it. Nothing here is pickle: a dtype that is not plain numbers, times or text is refused both ways.
The standard library alone at import: children load this.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.errors import TooLarge, UsageError
from sandboxq.payload.numpy_values import (
    are_same,
    array_bytes,
    array_from,
    is_array,
    is_plain_dtype,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# The member that makes a JSON object a reference; its value is the part's name.
REFERENCE = "sq:binary"
# The name of the part when the whole value is one.
WHOLE = "value"
# What Redis takes as one value.
MOST_BYTES = 512 << 20
# More would be slower than any other way of writing them.
MOST_PARTS = 10_000
# Bytes: suits vector instructions.
ALIGNMENT = 64

_ZEROS = bytes(ALIGNMENT)
_BUFFERS = (bytes, bytearray, memoryview)


class Entry(NamedTuple):
    """One part as the table has it; ``dtype`` and ``shape`` are None for plain bytes."""

    name: str
    dtype: str | None
    shape: list[int] | None
    size: int


class Part(NamedTuple):
    """One part with its bytes."""

    entry: Entry
    buffer: memoryview


class Place(NamedTuple):
    """Where in the blob a part is."""

    entry: Entry
    offset: int


# ── out of a value ──────────────────────────────────────────────────────────


def take_out(value: Any, what: str) -> tuple[Any, list[Part]]:
    """Return the value with references in place of arrays and bytes, and these, in order.

    Without any, the same object comes back. ``what`` names the value in errors.
    Raises: UsageError for arrays of objects or records, and for more than Redis can hold.
    """
    taker = _Taker(what)
    try:
        changed = taker.without(value, ())
    except RecursionError:
        return value, []  # no JSON either, which the caller will hear
    size = blob_size([part.entry for part in taker.parts])
    if size > MOST_BYTES:
        message = (
            f"the arrays and bytes in {what} have {size} bytes; Redis holds {MOST_BYTES} in one "
            "value: add several jobs, or pass what is larger through files"
        )
        raise TooLarge(message)
    return changed, taker.parts


class _Taker:
    def __init__(self, what: str) -> None:
        self.parts: list[Part] = []
        self._what = what
        self._names: set[str] = set()

    def without(self, value: Any, path: tuple[str, ...]) -> Any:
        """Return the value without what is binary in it; JSON alone stays as it is."""
        if isinstance(value, dict):
            changed = {key: self.without(item, (*path, str(key))) for key, item in value.items()}
            return changed if any(changed[key] is not value[key] for key in value) else value
        if isinstance(value, (list, tuple)):
            items = [self.without(item, (*path, str(i))) for i, item in enumerate(value)]
            return value if are_same(items, value) else items
        if isinstance(value, _BUFFERS):
            return self._note(path, None, None, memoryview(value))
        if is_array(value):
            return self._note_array(path, value)
        return value

    def _note_array(self, path: tuple[str, ...], array: Any) -> dict[str, Any]:
        import numpy as np  # noqa: PLC0415 - the caller has it already

        dtype = array.dtype.str
        place = ".".join(path) or WHOLE
        if array.dtype.fields or array.dtype.subdtype or not is_plain_dtype(dtype):
            message = (
                f"{self._what} has an array of dtype {array.dtype} at {place!r}: only numbers, "
                "booleans, times and text of a fixed width are stored (never objects or records)"
            )
            raise UsageError(message)
        if hasattr(array, "mask"):
            message = f"{self._what} has a masked array at {place!r}: fill it, or send its mask too"
            raise UsageError(message)
        flat = np.ascontiguousarray(array).reshape(-1)
        raw = flat.view(np.uint8).data if flat.size else memoryview(b"")
        return self._note(path, dtype, list(array.shape), raw)

    def _note(
        self, path: tuple[str, ...], dtype: str | None, shape: list[int] | None, raw: memoryview
    ) -> dict[str, Any]:
        if len(self.parts) == MOST_PARTS:
            message = f"{self._what} has more than {MOST_PARTS} arrays and bytes: join them"
            raise UsageError(message)
        if not raw.contiguous:
            raw = memoryview(raw.tobytes())
        entry = Entry(self._free_name(".".join(path) or WHOLE), dtype, shape, raw.nbytes)
        self.parts.append(Part(entry, raw.cast("B") if raw.nbytes else memoryview(b"")))
        reference: dict[str, Any] = {REFERENCE: entry.name, "bytes": entry.size}
        if dtype is not None:
            reference |= {"dtype": dtype, "shape": shape}
        return reference

    def _free_name(self, wanted: str) -> str:
        """Return a name that no part has: keys may contain dots."""
        name, number = wanted, 2
        while name in self._names:
            name, number = f"{wanted}#{number}", number + 1
        self._names.add(name)
        return name


# ── the blob ────────────────────────────────────────────────────────────────


def padding(size: int) -> int:
    """Return how many bytes are between a part of this size and the next."""
    return -size % ALIGNMENT


def blob_size(entries: list[Entry]) -> int:
    """Return how long the blob of these parts is."""
    return sum(entry.size + padding(entry.size) for entry in entries)


def pieces_of(parts: Iterable[Part]) -> list[memoryview | bytes]:
    """Return the blob of these parts in pieces, none of which is copied."""
    pieces: list[memoryview | bytes] = []
    for entry, buffer in parts:
        pieces += (buffer, _ZEROS[: padding(entry.size)])
    return pieces


def table_text(entries: list[Entry]) -> str:
    """Return the table as JSON: the entries in the order of the blob."""
    return json.dumps(entries, separators=(",", ":"))


def places_in(table: bytes | str, blob_bytes: int) -> dict[str, Place]:
    """Return where each part is, by name.

    Raises: ValueError when this is no table of a blob of so many bytes, whoever wrote it.
    """
    try:
        rows = json.loads(table)
    except RecursionError as error:
        message = "the table is nested too deep"
        raise ValueError(message) from error
    if not isinstance(rows, list) or len(rows) > MOST_PARTS:
        message = f"{rows!r:.100} is no table"
        raise ValueError(message)
    places: dict[str, Place] = {}
    offset = 0
    for row in rows:
        entry = _checked_entry(row)
        places[entry.name] = Place(entry, offset)
        offset += entry.size + padding(entry.size)
    if offset != blob_bytes:
        message = f"the table tells of {offset} bytes, there are {blob_bytes}"
        raise ValueError(message)
    return places


def _checked_entry(row: Any) -> Entry:
    try:
        name, dtype, shape, size = row
    except (TypeError, ValueError) as error:
        message = f"{row!r:.100} is no entry of a table"
        raise ValueError(message) from error
    is_sized = type(size) is int and size >= 0
    if is_sized and (shape is not None or dtype is not None):
        is_sized = size == array_bytes(dtype, shape)
    if not (isinstance(name, str) and is_sized):
        message = f"{row!r:.100} is no entry of a table"
        raise ValueError(message)
    return Entry(name, dtype, shape, size)


def place_named(places: dict[str, Place], name: str) -> Place:
    """Return the place of a part. Raises: KeyError that says which there are."""
    if name in places:
        return places[name]
    known = ", ".join(map(repr, places)) or "none"
    message = f"there is no array and no bytes named {name!r}; there are: {known}"
    raise KeyError(message)


# ── back into values ────────────────────────────────────────────────────────


def bytes_at(place: Place, blob: memoryview) -> memoryview:
    """Return the bytes of a part, not copied."""
    return blob[place.offset : place.offset + place.entry.size]


def value_at(place: Place, blob: memoryview) -> Any:
    """Return a part as what it was: an array (a view, not copied), or a memoryview.

    Raises: ValueError when dtype, shape and size do not fit; ImportError without numpy.
    """
    raw = bytes_at(place, blob)
    if place.entry.dtype is None:
        return raw
    return array_from(place.entry.dtype, place.entry.shape, raw)


def node_buffer(value: Any, name: str) -> bytes | None:
    """Return the bytes that Node wrote as JSON of a Buffer, at this place in a value."""
    for step in [] if name == WHOLE else name.split("."):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (LookupError, TypeError, ValueError):
            return None
    if not isinstance(value, dict) or value.get("type") != "Buffer":
        return None
    numbers = value.get("data")
    try:
        return bytes(numbers) if isinstance(numbers, list) else None
    except (TypeError, ValueError):
        return None


def put_back(value: Any, places: dict[str, Place], blob: memoryview) -> Any:
    """Return the value with arrays and bytes in place of their references; bytes are ``bytes``.

    A part that is named several times is one object. Raises: ValueError for what is nested too
    deep, or where dtype, shape and size do not fit.
    """

    def found(place: Place) -> Any:
        part = value_at(place, blob)
        return bytes(part) if isinstance(part, memoryview) else part

    return _put_back(value, places, found)


def put_back_views(value: Any, places: dict[str, Place], blob: memoryview) -> Any:
    """Return the value as ``put_back`` does, but with views of the blob in place of ``bytes``."""
    return _put_back(value, places, lambda place: value_at(place, blob))


def _put_back(value: Any, places: dict[str, Place], find: Callable[[Place], Any]) -> Any:
    found: dict[str, Any] = {}

    def inside(item: Any) -> Any:
        if isinstance(item, (list, tuple)):
            return [inside(each) for each in item]
        if not isinstance(item, dict):
            return item
        name = item.get(REFERENCE)
        if not isinstance(name, str) or name not in places:
            return {key: inside(each) for key, each in item.items()}
        if name not in found:
            found[name] = find(places[name])
        return found[name]

    try:
        return inside(value)
    except RecursionError as error:
        message = "the value is nested too deep"
        raise ValueError(message) from error
