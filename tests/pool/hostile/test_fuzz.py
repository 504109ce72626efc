"""The fuzzer of `poe fuzz child`, for some seconds."""

from __future__ import annotations

import pytest

from tests.fuzz.fuzz_child import fuzz

_SECONDS = 8.0


@pytest.mark.parametrize("seed", [11, 12])
def test_honest_calls_end_as_if_no_child_were_hostile(seed: int) -> None:
    """`poe fuzz child` does this for 10 minutes, with other seeds."""
    assert fuzz(_SECONDS, seed) == []
