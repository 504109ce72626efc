"""How many cores: what this process may use, not what the machine has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sandboxq.worker.cores import Cores, usable_cores

if TYPE_CHECKING:
    from pathlib import Path


def test_affinity_counts_without_a_quota(tmp_path: Path) -> None:
    """On bare metal and in `taskset`, the affinity is the truth."""
    assert usable_cores(cgroup_root=tmp_path) == Cores(len(os.sched_getaffinity(0)), "CPU affinity")


def test_quota_is_rounded_down_but_never_to_none(tmp_path: Path) -> None:
    """Half a CPU still runs one child; one and a half run one."""
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    cores = usable_cores(cgroup_root=tmp_path)
    assert cores.count == 1
    assert cores.source == "cgroup quota of 0.5 CPUs"


def test_unlimited_quota_is_no_quota(tmp_path: Path) -> None:
    """`max` stands in most containers."""
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores(cgroup_root=tmp_path).source == "CPU affinity"


def test_quota_of_cgroup_v1(tmp_path: Path) -> None:
    """Older container hosts keep the quota in two files."""
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(cgroup_root=tmp_path).source == "cgroup quota of 1 CPUs"
