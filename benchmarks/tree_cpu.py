"""CPU seconds of a whole process tree, from Linux's /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree_cpu_seconds(*others: int) -> float:
    """Return the CPU seconds used so far by this process, all below it, and the ``others``.

    Of children that ended, those count that their parent has waited for.
    """
    return sum(_cpu_seconds(pid) for pid in {*_tree(os.getpid()), *others})


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in _texts(pid, "task/*/children"):
        for child in task.split():
            found += _tree(int(child))
    return found


def _cpu_seconds(pid: int) -> float:
    for text in _texts(pid, "stat"):
        # The name may hold spaces; after it, fields 14 to 17 are utime, stime, cutime, cstime.
        fields = text.rpartition(")")[2].split()
        return sum(int(ticks) for ticks in fields[11:15]) / _TICKS
    return 0.0


def _texts(pid: int, pattern: str) -> list[str]:
    texts = []
    for path in Path(f"/proc/{pid}").glob(pattern):
        try:
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            # It ended in between.
            continue
    return texts
