"""What this process may use of the machine: cores and memory."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return the cores that this process may use: affinity, then the cgroup's CPU quota."""
    cores = len(os.sched_getaffinity(0))
    quota = _cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def usable_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's or its cgroup's."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_memory_limits()])


def _cpu_quota() -> float | None:
    for folder in _folders(""):
        fields = _read(folder / "cpu.max").split()
        if len(fields) == 2 and fields[0].isdigit():  # noqa: PLR2004 - quota and period
            return int(fields[0]) / int(fields[1])
    for folder in _folders("cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            return int(quota) / int(period)
    return None


def _memory_limits() -> list[int]:
    texts = [_read(folder / "memory.max") for folder in _folders("")]
    texts += [_read(folder / "memory.limit_in_bytes") for folder in _folders("memory")]
    return [int(text) for text in texts if text.isdigit()]


def _folders(controller: str) -> list[Path]:
    """Return this process's cgroup folders from its own up to the root; v2 for controller ''."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            root = _CGROUP / controller
            own = root / path.lstrip("/")
            return [own, *[parent for parent in own.parents if parent.is_relative_to(root)]]
    return []


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
