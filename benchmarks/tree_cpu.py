"""CPU seconds and memory of processes, from Linux's /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree_cpu_seconds(*others: int) -> float:
    """Return the CPU seconds used so far by this process, all below it, and the ``others``.

    Of children that ended, those count that their parent has waited for.
    """
    return sum(cpu_seconds(pid) for pid in {*tree_of(os.getpid()), *others})


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of its ended children, to 10 ms; 0 when gone."""
    for text in _texts(pid, "stat"):
        # The name may hold spaces; after it, fields 14 to 17 are utime, stime, cutime, cstime.
        fields = text.rpartition(")")[2].split()
        return sum(int(ticks) for ticks in fields[11:15]) / _TICKS
    return 0.0


def own_memory(pid: int | str = "self") -> int:
    """Return the bytes that only this process holds: what would be free without it."""
    kilobytes = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            kilobytes += int(line.split()[1])
    return kilobytes * 1024


def shared_memory(pid: int) -> int:
    """Return the bytes that a process holds, of each page shared with others its part (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def children_of(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(child) for task in _texts(pid, "task/*/children") for child in task.split()]


def tree_of(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for child in children_of(pid):
        found += tree_of(child)
    return found


def _texts(pid: int, pattern: str) -> list[str]:
    texts = []
    for path in Path(f"/proc/{pid}").glob(pattern):
        try:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            # It ended in between.
            continue
    return texts
