"""Strict JSON with errors that name the place."""

from __future__ import annotations

import json
import math
import sys
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxq.child.values import NotJson, json_from_value, value_from_json

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(_JSON)
def test_any_json_goes_there_and_back(value: Any) -> None:
    """What a producer sends is what the processor sees."""
    raw = json_from_value(value, "it")
    assert value_from_json(raw, "it", empty=None) == value
    assert json.loads(raw) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.int64(3), b"3"),
        ({"best": np.arange(5).argmax(), "p": [np.float32(0.5), np.float64(2.5)]}, None),
        ({np.int64(1): {np.str_("a"): np.all([1])}}, b'{"1":{"a":true}}'),
        ([np.uint8(255), np.float16(1)], b"[255,1.0]"),
        ({np.all([1]): np.int8(-1)}, b'{"true":-1}'),
    ],
)
def test_scalars_of_numpy_are_values_of_python(value: Any, text: bytes | None) -> None:
    """What argmax and mean return is a number: nothing fails after the work is done."""
    assert json_from_value(value, "it") == (text or b'{"best":4,"p":[0.5,2.5]}')


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (np.float32("nan"), "nan at $"),
        ({"a": np.complex64(1)}, "complex at $.a"),
        ([np.datetime64("2026-01-01")], "datetime.date at $[0]"),
        ({np.datetime64("2026-01-01"): 1}, "a key of type"),
    ],
)
def test_scalars_that_json_has_not_are_named(value: Any, place: str) -> None:
    """As Python's own values of that kind."""
    with pytest.raises(NotJson) as caught:
        json_from_value(value, "the return value")
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, math.inf]}, "inf at $.a[1]"),
        ({1, 2}, "set at $"),
        ({"a": {"b": object()}}, "object at $.a.b"),
        ({(1, 2): 3}, "a key of type tuple at $"),
        (OrderedDict(a=b"x"), "bytes at $.a"),
        ([[[1j]]], "complex at $[0][0][0]"),
    ],
)
def test_error_says_what_and_where(value: Any, place: str) -> None:
    """'not JSON serializable' does not help with a result of a thousand fields."""
    with pytest.raises(NotJson, match="the return value is not JSON") as caught:
        json_from_value(value, "the return value")
    assert place in str(caught.value)


def test_too_deep_values_are_errors_not_crashes() -> None:
    """A RecursionError would blame the processor's code."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NotJson, match=r"deep|recursion"):
        json_from_value(value, "it")


def test_no_bytes_are_the_empty_value() -> None:
    """Hashes written by others may lack a field."""
    assert value_from_json(b"", "it", empty={}) == {}


def test_numbers_that_nobody_else_could_read_are_refused() -> None:
    """A processor may have raised Python's limit of digits, for itself alone."""
    usual = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        assert json_from_value({"a": -(10**4299), "b": "1" * 9000}, "the value")
        with pytest.raises(NotJson, match="4302 digits"):
            json_from_value([1, {"a": -(10**4300)}], "the value")
    finally:
        sys.set_int_max_str_digits(usual)
