"""Strict JSON with errors that name the place."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from typing import Any

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
