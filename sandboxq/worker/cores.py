"""How many cores this process may really use, and how that is known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cores:
    """A number of cores and where it came from, for the start banner."""

    count: int
    source: str


def usable_cores(*, cgroup_root: Path = Path("/sys/fs/cgroup")) -> Cores:
    """Count the cores of this process: its affinity, lowered by a cgroup CPU quota (at least 1)."""
    affinity = _affinity()
    quota = _cgroup_quota(cgroup_root)
    if quota is not None and quota < affinity.count:
        # Rounded down: a child more than the quota carries only makes all of them wait.
        return Cores(max(1, int(quota)), f"cgroup quota of {quota:g} CPUs")
    return affinity


def _affinity() -> Cores:
    if hasattr(os, "sched_getaffinity"):
        return Cores(len(os.sched_getaffinity(0)), "CPU affinity")
    return Cores(os.cpu_count() or 1, "CPUs of the machine")


def _cgroup_quota(root: Path) -> float | None:
    """Return the CPUs granted by the quota of this process's cgroup or of one above it."""
    quotas = [_quota_v2(directory) for directory in _cgroup_directories(root)]
    quotas.append(_quota_v1(root / "cpu"))
    known = [quota for quota in quotas if quota is not None]
    return min(known, default=None)


def _cgroup_directories(root: Path) -> list[Path]:
    """Return the cgroup v2 directory of this process and those above it."""
    own = root
    for line in _lines(Path("/proc/self/cgroup")):
        if line.startswith("0::/"):
            own = root / line.removeprefix("0::/")
    return [own, *(above for above in own.parents if above.is_relative_to(root))]


def _quota_v2(directory: Path) -> float | None:
    words = " ".join(_lines(directory / "cpu.max")).split()
    if len(words) != 2 or words[0] == "max":  # noqa: PLR2004 - the file holds quota and period
        return None
    return int(words[0]) / int(words[1])


def _quota_v1(directory: Path) -> float | None:
    quota = _lines(directory / "cpu.cfs_quota_us")
    period = _lines(directory / "cpu.cfs_period_us")
    if not quota or not period or int(quota[0]) <= 0:
        return None
    return int(quota[0]) / int(period[0])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
