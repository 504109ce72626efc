"""How often a program that is nothing but a worker looks for garbage."""

from __future__ import annotations

import gc

# A job's objects live until it is settled, and go without the collector. With Python's threshold of
# 700 they are looked at again and again on the way: 2 to 4 µs a job
# (docs/explanation/performance.md).
_YOUNG = 20_000
_MIDDLE = 20
_OLD = 20


def collect_rarely() -> None:
    """Leave what is imported out of all collections, and make those of the rest rare.

    For a process of its own, as ``sandboxq run``: it changes the collector of the whole process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
