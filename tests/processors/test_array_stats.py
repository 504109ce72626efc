"""The ready-made numpy processor."""

from __future__ import annotations

import json
import statistics
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Run = Callable[[str, Any], Any]


def test_given_values_are_described(run: Run) -> None:
    """Against Python's own statistics, so that the definitions are the usual ones."""
    values = [3, 1.5, 4, 1, 5, 9.25, 2]

    result = run("array_stats", {"values": values})

    assert result["count"] == len(values)
    assert result["mean"] == pytest.approx(statistics.mean(values))
    assert result["std"] == pytest.approx(statistics.pstdev(values))
    assert result["median"] == statistics.median(values)
    assert (result["min"], result["max"]) == (1, 9.25)


def test_random_values_are_the_same_for_the_same_seed(run: Run) -> None:
    """A retried job must give the result that the first attempt would have given."""
    first = run("array_stats", {"size": 10_000, "seed": 42})
    again = run("array_stats", {"size": 10_000, "seed": 42})
    other = run("array_stats", {"size": 10_000, "seed": 43})

    assert first["mean"] == again["mean"] != other["mean"]
    assert abs(first["mean"]) < 0.05
    assert first["std"] == pytest.approx(1, abs=0.05)


def test_the_result_is_plain_json(run: Run) -> None:
    """Numpy's own number types are not."""
    result = run("array_stats", {"size": 10, "seed": 0})

    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([], "it is []"),
        ("abc", "it is 'abc'"),
        ([1, "2"], "number 1 is '2'"),
        ([1, None], "number 1 is None"),
        ([True], "number 0 is True"),
        ([[1, 2]], r"number 0 is [1, 2]"),
        ([float("nan")], "number 0 is infinite, too large or not a number"),
        ([1, float("-inf")], "number 1 is infinite, too large or not a number"),
        ([10**5000], "number 0 is infinite, too large or not a number"),
    ],
)
def test_wrong_values_are_named(run: Run, values: Any, told: str) -> None:
    """Which number of a long list is wrong is what one looks for."""
    with pytest.raises(ValueError, match=r"^data\.values must be a list") as caught:
        run("array_stats", {"values": values})

    assert str(caught.value).endswith(told)


def test_values_whose_squares_overflow_are_refused(run: Run) -> None:
    """An infinite deviation is no JSON; the job would fail later with a riddle."""
    with pytest.raises(ValueError, match=r"data\.values are too large"):
        run("array_stats", {"values": [1e308, -1e308]})


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"size": 10}, "data.seed is missing"),
        ({"size": 0, "seed": 1}, "data.size must be an integer from 1 to 50000000, not 0"),
        ({"size": 1.5, "seed": 1}, "data.size must be an integer"),
        ({"size": 10, "seed": -1}, "data.seed must be an integer from 0"),
        ({"size": 10, "seed": "x"}, "data.seed must be an integer from 0"),
    ],
)
def test_a_wrong_size_or_seed_is_named(run: Run, data: Any, told: str) -> None:
    """The reader of failedReason must see field, rule and value."""
    with pytest.raises(ValueError, match=r"^data") as caught:
        run("array_stats", data)

    assert told in str(caught.value)


@pytest.mark.parametrize("data", [None, 5, "x", [1, 2], {}, {"seed": 1}])
def test_data_of_another_shape_is_refused(run: Run, data: Any) -> None:
    """Any JSON may arrive."""
    with pytest.raises(TypeError, match="data must be an object with values, or with"):
        run("array_stats", data)


def test_an_array_is_taken_as_it_is(load: Callable[[str], ModuleType]) -> None:
    """No list of millions of numbers is made of it, and its shape does not matter."""
    array = np.arange(6).reshape(2, 3)
    statistics = load("array_stats").process(job_with(array))
    assert (statistics["count"], statistics["mean"], statistics["max"]) == (6, 2.5, 5.0)


@pytest.mark.parametrize("array", [np.array([np.nan]), np.array([]), np.array(["a"])], ids=str)
def test_a_wrong_array_is_named(load: Callable[[str], ModuleType], array: Any) -> None:
    """The same rules as for a list."""
    with pytest.raises(ValueError, match="array of one or more finite numbers"):
        load("array_stats").process(job_with(array))


def job_with(array: Any) -> SimpleNamespace:
    """Return a job whose values are an array, as a processor sees it."""
    data = {"values": {"sq:binary": "values"}}
    return SimpleNamespace(data=data, array=lambda name: {"values": array}[name])
