"""Processors that have the name of another module: ``sandboxq.child.by_path.email``.

A package without a folder of its own, so that a process which a job starts, by ``multiprocessing``
with spawn, can import by its name what the job has pickled.
"""

from __future__ import annotations

import os

_VARIABLE = "SANDBOXQ_SOURCES"

__path__ = [os.environ[_VARIABLE]] if _VARIABLE in os.environ else []


def look_in(folder: str) -> None:
    """Find modules of this package in a folder, here and in processes that this one starts."""
    os.environ[_VARIABLE] = folder
    __path__[:] = [folder]
