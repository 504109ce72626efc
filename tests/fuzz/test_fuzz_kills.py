"""The fuzzer of `poe fuzz kills`, for some seconds."""

from __future__ import annotations

import pytest

from tests.fuzz.fuzz_kills import fuzz


@pytest.mark.timeout(180)  # on a busy machine; of calls there are 5 seconds
def test_each_call_ends_once_whoever_is_killed() -> None:
    """See the top of fuzz_kills.py."""
    assert fuzz(5, seed=2) == []
