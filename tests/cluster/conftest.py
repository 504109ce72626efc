"""Fixtures of the cluster tests: a small cluster for quick tests, six nodes for slow ones."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.cluster.servers import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def small_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Yield two masters without replicas; what is tested on it must leave them as they are."""
    with Cluster(tmp_path_factory.mktemp("cluster"), masters=2, replicas=0) as cluster:
        yield cluster


@pytest.fixture(params=["valkey", "redis"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """Yield three masters and three replicas, which the test may kill."""
    program = shutil.which("redis-server")
    if request.param == "redis" and program is None:
        pytest.skip("no redis-server is installed")
    with Cluster(tmp_path / "cluster", program=program if request.param == "redis" else None) as it:
        yield it
