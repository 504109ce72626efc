"""One clamp: what callers say is refused in words, what stands in Redis is brought into range."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandboxq.errors import LONGEST_SECONDS, UsageError
from sandboxq.model.validation import (
    LONGEST_WAIT,
    MAX_SAFE_INTEGER,
    checked_client_part,
    checked_label,
    checked_whole,
    count_from_wire,
    number_from_wire,
    positive_seconds,
    seconds_from,
    seconds_from_wire,
    shown,
    waiting_seconds,
    whole_from_wire,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(JSON)
@example(10**400)
@example(-(10**400))
@example(float("nan"))
@example("9" * 5000)
def test_any_number_of_the_wire_is_one_that_redis_counts_with(value: Any) -> None:
    """Whoever wrote it: Number.MAX_VALUE is a number, and an integer of 400 digits too."""
    whole, number = whole_from_wire(value), number_from_wire(value)
    assert whole is None or abs(whole) <= MAX_SAFE_INTEGER
    assert number is None or math.isfinite(number)
    assert 0 <= count_from_wire(value) <= MAX_SAFE_INTEGER
    seconds = seconds_from_wire(value, LONGEST_WAIT)
    assert seconds is None or abs(seconds) <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        ("5", 5), (" 7 ", 7), ("1e3", 1000), (2.9, 2), (-2.9, -2), (True, 1), (b"12", 12),
        (1.7976931348623e308, MAX_SAFE_INTEGER), (-(10**400), -MAX_SAFE_INTEGER),
        ("", None), ("nan", None), ("inf", None), ("1_000", None), ("x", None), (None, None),
        ([], None), ({}, None), (b"x", None),
    ],
)  # fmt: skip
def test_numbers_are_read_as_javascript_reads_them(value: Any, whole: int | None) -> None:
    """Text that is a number counts as one, and what only Python takes for one does not."""
    assert whole_from_wire(value) == whole


@pytest.mark.parametrize(
    "value", [-0.001, float("nan"), float("inf"), 1e300, 10**400, True, "5", None, [5]]
)
def test_durations_that_nobody_can_wait_for_are_refused(value: Any) -> None:
    """The message names the argument, whatever the value is."""
    for check in (seconds_from, positive_seconds, waiting_seconds):
        with pytest.raises(UsageError, match=r"^grace "):
            check("grace", value)


def test_what_is_waited_for_is_shorter_than_what_is_stored() -> None:
    """Python's and the kernel's timers end at 292 years; a delay is only a number in Redis."""
    assert seconds_from("delay", LONGEST_SECONDS) == LONGEST_SECONDS
    assert seconds_from("delay", dt.timedelta(days=50_000_000))
    with pytest.raises(UsageError, match="from 0 to 3153600000 seconds"):
        waiting_seconds("timeout", LONGEST_WAIT * 1.01)


@pytest.mark.parametrize("value", [1.0, "1", True, None, -1, 2**53, 10**4000])
def test_counts(value: Any) -> None:
    """Half a job is none, and no number is too long for its message."""
    with pytest.raises(UsageError, match=r"^limit must be .{1,260}$"):
        checked_whole("limit", value)


@pytest.mark.parametrize("name", ["", "a\nb", "a\x00b", "\x7f", "\ud800", None, 5, b"x"])
def test_names_with_keys_of_their_own(name: Any) -> None:
    """A line break would end the name in the middle of what is stored under it."""
    with pytest.raises(UsageError, match=r"^a queue name "):
        checked_label("a queue name", name)


def test_names_of_any_language() -> None:
    """What is not ASCII is a name all the same."""
    assert (
        checked_label("a queue name", "Bilder für Ängström 图像 🖼️") == "Bilder für Ängström 图像 🖼️"
    )


@pytest.mark.parametrize("part", ["my app", "wörker", "a\tb", "\x00", "\ud800", 5, None])
def test_what_redis_takes_in_no_connection_name(part: Any) -> None:
    """CLIENT SETNAME refuses it when everything else has been started."""
    with pytest.raises(UsageError, match=r"^prefix "):
        checked_client_part("prefix", part)


def test_a_value_is_shown_whatever_it_is() -> None:
    """A message about a bad value must not be another error."""

    class Spiteful:
        def __repr__(self) -> str:
            raise RuntimeError

    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert [shown(each) for each in (Spiteful(), deep, 10**5000)] == [
        "<Spiteful>",
        "<list>",
        "<int>",
    ]
    assert len(shown("x" * 10**6)) < 300
