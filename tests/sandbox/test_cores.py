"""How many cores: what this process may use, not what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxq.sandbox.support import Cores, usable_cores


@pytest.fixture
def own_cgroup(tmp_path: Path) -> Path:
    """Return a stand-in for /sys/fs/cgroup in which this process's own group exists."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.partition("::/")[2] for line in lines if line.startswith("0::/")), "")
    (tmp_path / own).mkdir(parents=True, exist_ok=True)
    return tmp_path


def test_affinity_counts_without_a_quota(own_cgroup: Path) -> None:
    """On bare metal and in `taskset`, the affinity is the truth."""
    assert usable_cores(cgroup=own_cgroup) == Cores(len(os.sched_getaffinity(0)), "CPU affinity")


def test_quota_is_rounded_down_but_never_to_none(own_cgroup: Path) -> None:
    """Half a CPU still runs one child; one and a half run one."""
    (own_cgroup / "cpu.max").write_text("50000 100000\n")
    cores = usable_cores(cgroup=own_cgroup)
    assert cores.number == 1
    assert cores.source == "cgroup quota of 0.5 CPUs"


def test_unlimited_quota_is_no_quota(own_cgroup: Path) -> None:
    """`max` stands in most containers."""
    (own_cgroup / "cpu.max").write_text("max 100000\n")
    assert usable_cores(cgroup=own_cgroup).source == "CPU affinity"
