"""Tagged values: what comes back is a value or a UsageError, whoever wrote it."""

from __future__ import annotations

import builtins
import collections
import contextlib
import datetime as dt
import decimal
import fractions
import json
import pathlib
import time
import tracemalloc
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxq import UsageError
from sandboxq.payload.tagged import (
    MOST_LEVELS,
    exception_from_tagged,
    tagged_from_exception,
    tagged_from_value,
    value_from_tagged,
)

# What hash() makes 0 of: each of them, in a set, is compared with all the others.
COLLIDING = 2**61 - 1
TAGS = [
    *("$bytes", "$tuple", "$set", "$frozenset", "$deque", "$bytearray", "$complex", "$datetime"),
    *("$date", "$time", "$timedelta", "$decimal", "$fraction", "$uuid", "$path", "$purepath"),
    *("$dict", "$float", "$array", "$unknown"),
]


def nested(levels: int, tag: str | None = None) -> Any:
    """Return so many lists, or tags, in each other."""
    value: Any = []
    for _ in range(levels):
        value = [value] if tag is None else {tag: [value]}
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "x"], "$b": {3: (4, {5})}},
        [b"x", bytearray(b"y"), frozenset({1}), collections.deque([1, 2]), 1 + 2j],
        [dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.date(2026, 1, 1), dt.timedelta(days=-1)],
        [decimal.Decimal("1.10"), fractions.Fraction(-3, 7), fractions.Fraction(5)],
        [uuid.UUID(int=1), pathlib.Path("/x"), float("inf")],
        nested(MOST_LEVELS - 1),
        set(range(5000)),
        {index: index for index in range(5000)},
    ],
)
def test_a_value_comes_back(value: Any) -> None:
    """Through JSON, as it was."""
    assert value_from_tagged(json.loads(json.dumps(tagged_from_value(value)))) == value


@pytest.mark.parametrize(
    "tagged",
    [
        {"$bytearray": 3_000_000_000},
        {"$bytearray": 10**12},
        {"$bytes": 10**12},
        {"$array": ["|u1", [2_000_000_000], 2_000_000_000]},
        {"$array": ["|u1", [2_000_000_000], {"$bytes": ""}]},
        {"$array": ["<i3", [1], {"$bytes": "YWJj"}]},
        {"$array": ["|S0", [10**12], {"$bytes": ""}]},
        {"$array": ["<f8", [10**30, 0], {"$bytes": ""}]},
        {"$fraction": "1e9999999"},
        {"$fraction": "1e99999999"},
        {"$fraction": 1e300},
        {"$tuple": 10**9},
        {"$set": [COLLIDING * factor for factor in range(50_000)]},
        {"$dict": [[COLLIDING * factor, 0] for factor in range(50_000)]},
        {"$dict": [1]},
        {"$set": [[]]},
        {"$timedelta": [10**40, 0, 0]},
        {"$float": "x"},
        {"$" + "x" * 100_000: 1},
        nested(5000),
        nested(5000, "$tuple"),
        nested(MOST_LEVELS + 5),
    ],
    ids=lambda tagged: next(iter(tagged))[:12] if isinstance(tagged, dict) else "list",
)
def test_what_nobody_writes_is_refused_at_once(tagged: Any) -> None:
    """Before anything is allocated or computed, and in few words."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(UsageError) as refused:
            value_from_tagged(tagged)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50 << 20
    assert time.process_time() - started < 5
    assert len(str(refused.value)) < 2000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.dictionaries(st.sampled_from(TAGS), inner, min_size=1, max_size=1)
    ),
    max_leaves=12,
)


@settings(max_examples=500, deadline=None)
@given(JSON)
def test_any_json_is_a_value_or_refused(tagged: Any) -> None:
    """No other error comes out, or its future would never end."""
    with contextlib.suppress(UsageError):
        value_from_tagged(tagged)
    row = ["ValueError", tagged]
    assert exception_from_tagged(row) is None or isinstance(exception_from_tagged(row), ValueError)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(dir(builtins)), st.lists(JSON))
def test_any_row_is_an_exception_or_none(name: str, arguments: list[Any]) -> None:
    """Whatever class it names, and whatever that makes of its arguments."""
    error = exception_from_tagged([name, *arguments])
    assert error is None or isinstance(error, Exception)


def test_too_deep_is_said_where_it_is_returned() -> None:
    """The child's error is the user's to mend."""
    for value in (nested(MOST_LEVELS + 1), nested(3000)):
        with pytest.raises(UsageError, match=f"more than {MOST_LEVELS} levels"):
            tagged_from_value(value)


def test_stop_iteration_is_no_exception_for_a_future() -> None:
    """Raised into a coroutine it would end that quietly: it comes back as text."""
    assert tagged_from_exception(StopIteration(3)) is None
    assert exception_from_tagged(["StopIteration", 3]) is None


def test_an_array_that_is_there_twice_is_copied_once() -> None:
    """Or a kilobyte of references to one large array would be gigabytes."""
    array = np.zeros(1000)
    array.setflags(write=False)
    back = value_from_tagged([array] * 50)
    assert len({id(each) for each in back}) == 1
    assert back[0].flags.writeable


def test_scalars_of_numpy_are_values_of_python() -> None:
    """What argmax returns is a number."""
    value = {"n": np.int64(3), "f": np.float32(1.5), "b": np.all([1]), np.int64(1): "key"}
    back = value_from_tagged(tagged_from_value(value))
    assert back == {"n": 3, "f": 1.5, "b": True, 1: "key"}
    assert [type(each) for each in back.values()] == [int, float, bool, str]
    with pytest.raises(UsageError, match="longdouble"):
        tagged_from_value(np.longdouble(1))
