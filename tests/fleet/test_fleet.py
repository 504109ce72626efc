"""A deploy that replaces workers one by one, and a fleet that grows and shrinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_async
from tests.fleet.fleet import Load, rolling, scaling

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(180)
def test_a_worker_is_replaced_under_load(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """The short one: nothing lost, no attempt used, probes that say what is so."""
    report = run_async(rolling(server_url, queue_name, tmp_path, workers=1, seconds=2.0, every=1.0))
    assert report.is_good, report
    assert report.replaced >= 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rolling_deploys_for_minutes(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """4 workers, one replaced every 10 s for 5 minutes; the wait of a job stays bounded."""
    report = run_async(rolling(server_url, queue_name, tmp_path))
    assert report.is_good, report
    assert report.replaced >= 10
    assert report.wait_p99 < 30  # bounded, also on a machine that is busy with other tests


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_one_to_eight_and_back(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """What an autoscaler does: none of those that leave takes a job along."""
    report = run_async(scaling(server_url, queue_name, tmp_path, load=Load(rate=60)))
    assert report.is_good, report
