"""Statistics of an array of numbers, with numpy.

Data: ``{"values": numbers}``, a list or better a numpy array of any shape, or
``{"size": count, "seed": integer}`` for that many normally distributed random numbers (the same
ones for the same seed).
Result: ``{"count", "mean", "std", "min", "median", "max", "seconds"}``.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

# 400 MB of numbers, and as much again for the sorting that a median takes.
MAX_SIZE = 50_000_000

Array = np.ndarray[tuple[int], np.dtype[np.float64]]


def process(job: Any) -> dict[str, Any]:
    """Return the statistics of the numbers that ``job.data`` holds or describes.

    Raises: TypeError and ValueError, naming the field of ``job.data``.
    """
    began = time.perf_counter()
    statistics = _statistics(_numbers(job, job.data))
    return {**statistics, "seconds": round(time.perf_counter() - began, 6)}


def _numbers(job: Any, data: Any) -> Array:
    if not isinstance(data, dict) or not ("values" in data or "size" in data):
        message = f"data must be an object with values, or with size and seed, not {data!r:.200}"
        raise TypeError(message)
    if isinstance(data.get("values"), dict):
        return _checked(job.array("values"))
    if "values" in data:
        return _given(data["values"])
    size = _integer(data, "size", low=1, high=MAX_SIZE)
    seed = _integer(data, "seed", low=0, high=2**63 - 1)
    return np.random.default_rng(seed).standard_normal(size)


def _checked(array: Any) -> Array:
    """Return the numbers of an array that the producer sent as one."""
    if array.dtype.kind not in "biuf" or not array.size or not np.isfinite(array).all():
        message = (
            "data.values must be an array of one or more finite numbers; "
            f"it is {array.dtype} of shape {array.shape}"
        )
        raise ValueError(message)
    numbers: Array = array.ravel().astype(np.float64, copy=False)
    return numbers


def _given(values: Any) -> Array:
    problem = _problem(values)
    if problem:
        message = f"data.values must be a list of one or more finite numbers; {problem}"
        raise ValueError(message)
    return np.asarray(values, dtype=np.float64)


def _problem(values: Any) -> str:
    if not isinstance(values, list) or not values:
        return f"it is {values!r:.200}"
    for index, value in enumerate(values):
        if not isinstance(value, int | float) or isinstance(value, bool):
            return f"number {index} is {value!r:.200}"
        if not abs(value) <= sys.float_info.max:
            # Not shown: Python refuses to print integers of thousands of digits.
            return f"number {index} is infinite, too large or not a number"
    return ""


def _integer(data: dict[str, Any], field: str, *, low: int, high: int) -> int:
    allowed = f"an integer from {low} to {high}"
    if field not in data:
        message = f"data.{field} is missing; it must be {allowed}"
        raise ValueError(message)
    value = data[field]
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        message = f"data.{field} must be {allowed}, not {value!r}"
        raise ValueError(message)
    return value


def _statistics(numbers: Array) -> dict[str, Any]:
    with np.errstate(over="ignore"):
        statistics = {
            "mean": float(numbers.mean()),
            "std": float(numbers.std()),
            "min": float(numbers.min()),
            "median": float(np.median(numbers)),
            "max": float(numbers.max()),
        }
    if not np.isfinite(list(statistics.values())).all():
        message = "data.values are too large: their sum or their squares overflow a 64-bit float"
        raise ValueError(message)
    return {"count": len(numbers), **statistics}
