"""Reads files of the kernel, below /proc and /sys: four system calls, where open() makes nine."""

from __future__ import annotations

import os

_PIECE = 1 << 16


def read_file(path: str) -> bytes:
    """Return what a file says; nothing when it is not there, or what it is about has gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return _all_of(fd)
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_text(path: str) -> str:
    """Return the same as text."""
    return read_file(path).decode("utf-8", "replace")


def _all_of(fd: int) -> bytes:
    """Read until nothing comes: the kernel tells some files piece by piece."""
    found = os.read(fd, _PIECE)
    while piece := os.read(fd, _PIECE):
        found += piece
    return found
