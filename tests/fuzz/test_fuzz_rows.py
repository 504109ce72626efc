"""The fuzzer of rows and replies, for as long as tests may take."""

from __future__ import annotations

import pytest

from tests.fuzz.fuzz_rows import fuzz


@pytest.mark.timeout(240)  # on a busy machine; of rounds there are 40 seconds
def test_no_row_and_no_reply_reaches_other_jobs() -> None:
    """See the top of fuzz_rows.py."""
    assert fuzz(40, seed=1) == []
