"""The stand-ins for CPU-bound and I/O-bound jobs, on which benchmarks and tests rely."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import SOON, run_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Load = Callable[[str], ModuleType]
    Run = Callable[[str, Any], Any]

BAD_SECONDS = [-1, 86_401, "2", None, True, float("nan"), float("inf"), [1]]


def test_burn_uses_the_cpu_time_it_was_asked_for(run: Run) -> None:
    """Benchmarks compare places by the same amount of work, so it must be CPU time."""
    began = time.thread_time()

    result = run("burn", {"seconds": 0.1})

    used = time.thread_time() - began
    assert 0.1 <= used < 0.5
    assert result["seconds"] == pytest.approx(used, abs=0.2)
    assert result["rounds"] > 0


def test_burn_of_nothing_returns_at_once(run: Run) -> None:
    """Zero is a legal time and the cheapest job there is."""
    assert run("burn", {"seconds": 0})["rounds"] == 0


def test_sleep_waits_without_computing(load: Load) -> None:
    """Many of them share one loop; a blocking wait would make them queue up."""
    process = load("sleep").process
    job = SimpleNamespace(data={"seconds": 0.2})

    async def many_at_once() -> list[Any]:
        return await asyncio.gather(*(process(job) for _ in range(200)))

    began = time.perf_counter()
    results = run_async(many_at_once())

    assert time.perf_counter() - began < SOON  # of 40
    assert all(0.19 <= result["seconds"] < SOON for result in results)


@pytest.mark.parametrize("seconds", BAD_SECONDS)
def test_burn_names_a_wrong_time(run: Run, seconds: Any) -> None:
    """The reader of failedReason must see field, rule and value."""
    with pytest.raises(ValueError, match=r"^data\.seconds must be a number from 0 to 86400, not"):
        run("burn", {"seconds": seconds})


@pytest.mark.parametrize("seconds", BAD_SECONDS)
def test_sleep_names_a_wrong_time(run: Run, seconds: Any) -> None:
    """As for burn; both are copied as first processors, so both must be models."""
    with pytest.raises(ValueError, match=r"^data\.seconds must be a number from 0 to 86400, not"):
        run_async(run("sleep", {"seconds": seconds}))


def test_a_missing_time_and_another_shape_are_named(run: Run) -> None:
    """Any JSON may arrive."""
    with pytest.raises(ValueError, match=r"data\.seconds is missing"):
        run("burn", {"second": 1})
    with pytest.raises(TypeError, match="data must be an object with seconds, not 5"):
        run("burn", 5)
    with pytest.raises(ValueError, match=r"data\.seconds is missing"):
        run_async(run("sleep", {}))
    with pytest.raises(TypeError, match="data must be an object with seconds, not None"):
        run_async(run("sleep", None))
