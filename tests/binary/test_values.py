"""Arrays and bytes out of values and back, without Redis."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from sandboxq import UsageError
from sandboxq.payload.binary import (
    ALIGNMENT,
    Entry,
    Part,
    Place,
    blob_size,
    node_buffer,
    pieces_of,
    places_in,
    put_back,
    table_text,
    take_out,
    value_at,
)

ARRAYS = [
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.arange(24, dtype=">i4").reshape(2, 3, 4)[:, ::2],
    np.array(3.5),
    np.zeros((0, 3), np.float32),
    np.array([1 + 2j]),
    np.array(["2026-11-24"], dtype="M8[ms]"),
    np.array(["é", "ab"]),
    np.array([True, False]),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
]


def joined(parts: list[Part]) -> tuple[dict[str, Any], memoryview]:
    """Return what Redis would give back: the places and the blob."""
    blob = b"".join(pieces_of(parts))
    entries = [part.entry for part in parts]
    assert len(blob) == blob_size(entries)
    return places_in(table_text(entries), len(blob)), memoryview(blob)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_an_array_comes_back_as_it_was(array: Any) -> None:
    """Whatever its order in memory, its byte order and its shape."""
    value, parts = take_out({"a": [array]}, "data")
    (back,) = put_back(value, *joined(parts))["a"]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert (back == array).all()
    assert not back.size or not back.flags.writeable


def test_json_is_readable_and_says_what_there_is() -> None:
    """A dashboard and Node see a small object where an array was."""
    pixels = np.zeros((4, 5), np.uint8)
    value, parts = take_out({"pixels": pixels, "k": 3, "raw": [b"abc", bytearray(b"d")]}, "data")
    assert value["pixels"] == {"sq:binary": "pixels", "bytes": 20, "dtype": "|u1", "shape": [4, 5]}
    assert value["raw"] == [{"sq:binary": "raw.0", "bytes": 3}, {"sq:binary": "raw.1", "bytes": 1}]
    assert value["k"] == 3
    places, _ = joined(parts)
    assert all(place.offset % ALIGNMENT == 0 for place in places.values())


def test_what_has_none_stays_the_same_object() -> None:
    """Plain data is neither copied nor changed."""
    data = {"a": [1, {"b": ("c", None)}]}
    assert take_out(data, "data") == (data, [])
    assert take_out(data, "data")[0] is data


def test_names_are_told_apart() -> None:
    """Keys with dots may spell the same path."""
    _, parts = take_out({"a.b": b"1", "a": {"b": b"2"}}, "data")
    assert [part.entry.name for part in parts] == ["a.b", "a.b#2"]
    assert take_out(b"whole", "data")[0] == {"sq:binary": "value", "bytes": 5}


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.zeros(2, dtype=[("x", "i4"), ("y", "f8")]),
        np.ma.masked_array([1, 2], mask=[False, True]),
    ],
    ids=["objects", "records", "masked"],
)
def test_what_is_not_plain_is_refused(array: Any) -> None:
    """Objects would need pickle; records and masks would lose a part of themselves."""
    with pytest.raises(UsageError, match=r"data has .* at 'x\.y'"):
        take_out({"x": {"y": array}}, "data")


def test_more_than_redis_holds_is_refused() -> None:
    """Nothing is written then."""
    huge = np.broadcast_to(np.uint8(0), (513 << 20,))
    with pytest.raises(UsageError, match="537919488 bytes; Redis holds 536870912"):
        take_out({"a": huge}, "data")


@pytest.mark.parametrize(
    "table",
    [
        '[["a","|O",[1],8]]',
        '[["a","|u1",[-1],64]]',
        '[["a",null,null,63]]',
        '[["a",null,[1],64]]',
        '[["a"]]',
        "nothing",
        '[["a","|V8",[8],64]]',
    ],
)
def test_a_table_that_is_none_is_refused(table: str) -> None:
    """A hostile child writes what it likes; nobody must believe it."""
    with pytest.raises(ValueError, match=r"no entry|tells of|Expecting|not plain|no shape"):
        places_in(table, 128)


def test_a_shape_that_does_not_fit_is_refused() -> None:
    """What an array takes is computed before anything is made of it."""
    with pytest.raises(ValueError, match="no entry"):
        places_in('[["a","<i4",[100],64]]', 64)
    with pytest.raises(ValueError, match="no entry"):
        places_in('[["a","<f8",[100000000000],0]]', 0)
    with pytest.raises(ValueError, match="no width"):
        places_in('[["a","|S0",[100000000000],0]]', 0)
    place = Place(Entry("a", "<f8", [10**11], 0), 0)
    with pytest.raises(ValueError, match="no array"):
        value_at(place, memoryview(b""))


@pytest.mark.parametrize("dtype", ["<f12", "<M8[foo]", "<M8[999999999s]", "<i4"])
def test_a_dtype_that_numpy_does_not_know_is_a_value_error(dtype: str) -> None:
    """Whoever decodes handles one kind of error."""
    size = {"<f12": 12, "<i4": 4}.get(dtype, 8)
    place = Place(Entry("a", dtype, [1], size), 0)
    with contextlib.suppress(ValueError):
        assert value_at(place, memoryview(bytes(size))).shape == (1,)


def test_a_part_that_is_named_often_is_one_object() -> None:
    """Or some kilobytes of references to one part would be terabytes."""
    _, parts = take_out({"a": b"x" * 1000}, "data")
    back = put_back([{"sq:binary": "a"}] * 100, *joined(parts))
    assert len({id(item) for item in back}) == 1


def test_a_buffer_of_node_is_a_list_of_numbers() -> None:
    """A number in its place would be so many bytes of zeros."""
    assert node_buffer({"type": "Buffer", "data": 10**12}, "value") is None
    assert node_buffer({"type": "Buffer", "data": [1, 2]}, "value") == b"\x01\x02"
