"""A few campaigns, short: whatever is killed, cut or restarted, every job ends, and once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.chaos.campaigns import ALL, QUICK, SELECTION
from tests.chaos.run import run
from tests.chaos.table import rendered

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(300)  # on a busy machine the rest of the work takes its time
@pytest.mark.parametrize(("name", "seconds"), QUICK.items())
def test_nothing_is_lost(tmp_path: Path, name: str, seconds: float) -> None:
    """The table says what was found."""
    verdict = run(ALL[name], tmp_path, seed=1, seconds=seconds)
    assert verdict.is_good, rendered([verdict])
    assert verdict.jobs > 0


def test_selections_name_campaigns() -> None:
    """A campaign that was renamed must not leave a selection."""
    assert QUICK.keys() | SELECTION.keys() <= ALL.keys()
