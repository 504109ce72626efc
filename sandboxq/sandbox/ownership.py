"""Directories with an owner: whether it still lives is the kernel's word, in every PID namespace.

An owner keeps a directory open, with a lock on it that ends with the process (man 2 flock). A
process id in a name would mean another process in another container, or none.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRIES = 5
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Owned(NamedTuple):
    """A directory of this process, for as long as the descriptor is open."""

    path: str
    fd: int

    def give_up(self) -> None:
        """Say that the directory, if it is still there, has no owner any more."""
        os.close(self.fd)


def make_owned(parent: str, prefix: str) -> Owned:
    """Make a directory below ``parent``, with a name that nobody can guess. Raises: OSError."""
    for _ in range(_TRIES):
        path = f"{parent}/{prefix}{secrets.token_hex(8)}"
        os.mkdir(path)  # noqa: PTH102 - text, as all paths in this package
        os.chmod(path, 0o700)  # noqa: PTH101 - as above; a umask may take from what mkdir is told
        fd = _locked(path)
        if fd >= 0:
            return Owned(path, fd)
    message = f"directories made in {parent} are removed at once by somebody else"
    raise OSError(message)


def abandoned(parent: str, prefix: str) -> Iterator[str]:
    """Yield the directories of this user below ``parent`` whose owner has ended.

    Each has this process for an owner until the next is asked for: remove it meanwhile. None where
    the file system has no locks: then nobody can tell.
    """
    try:
        names = os.listdir(parent)  # noqa: PTH208 - as above
    except OSError:
        return
    for name in names:
        if name.startswith(prefix):
            yield from _abandoned(f"{parent}/{name}")


def _locked(path: str) -> int:
    """Return a descriptor with the lock; -1 when a sweeper was faster, and removes it."""
    try:
        fd = os.open(path, _FLAGS)
    except OSError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    except OSError:
        return fd  # no locks here: nobody sweeps either
    if os.fstat(fd).st_nlink and os.path.exists(path):  # noqa: PTH110 - as above
        return fd
    os.close(fd)
    return -1


def _abandoned(path: str) -> Iterator[str]:
    try:
        fd = os.open(path, _FLAGS)
    except OSError:
        return
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            return
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path
    except OSError:
        return  # it has an owner
    finally:
        os.close(fd)
