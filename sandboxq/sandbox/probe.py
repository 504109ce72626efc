"""What this process may use of the machine: cores and memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_CGROUP = Path("/sys/fs/cgroup")


class Cores(NamedTuple):
    """A number of cores, and where it came from, for people."""

    number: int
    source: str


def usable_cores(*, cgroup: Path = _CGROUP) -> Cores:
    """Return the cores that this process may use: affinity, lowered by a cgroup's CPU quota."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(os.cpu_count() or 1, "cores of the machine")
    cores = len(os.sched_getaffinity(0))
    quota = min(_cpu_quotas(cgroup), default=None)
    if quota is None or quota >= cores:
        return Cores(cores, "CPU affinity")
    # Rounded down: a child more than the quota carries only makes all of them wait.
    return Cores(max(1, int(quota)), f"cgroup quota of {quota:g} CPUs")


def usable_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's or its cgroup's."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_memory_limits()])


def _cpu_quotas(cgroup: Path) -> list[float]:
    """Return the quotas of this process's cgroup and of those above it, in CPUs."""
    pairs = [_read(folder / "cpu.max").split() for folder in _folders("", cgroup)]
    pairs += [
        [_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
        for folder in _folders("cpu", cgroup)
    ]
    return [int(pair[0]) / int(pair[1]) for pair in pairs if pair and pair[0].isdigit()]


def _memory_limits() -> list[int]:
    texts = [_read(folder / "memory.max") for folder in _folders("")]
    texts += [_read(folder / "memory.limit_in_bytes") for folder in _folders("memory")]
    return [int(text) for text in texts if text.isdigit()]


def _folders(controller: str, cgroup: Path = _CGROUP) -> list[Path]:
    """Return this process's cgroup folders from its own up to the root; v2 for controller ''."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            root = cgroup / controller
            own = root / path.lstrip("/")
            return [own, *[parent for parent in own.parents if parent.is_relative_to(root)]]
    return []


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
