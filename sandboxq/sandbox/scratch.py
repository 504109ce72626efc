"""Private directories for temporary files, removed with the child that had them.

Each has an owner, which keeps it open with a lock that ends with the process (man 2 flock): that
tells in every PID namespace whether the owner still lives. A process id in a name would mean
another process in another container, or none.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import sys
import time
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.errors import MechanismMissing

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

_TRIES = 5
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Bytes that a file or folder takes at least, its name and inode included.
_BLOCK = 4096
# Of a path that is gone on with by a descriptor, and how often that is done.
_LONG, _HOPS = 2000, 16
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Owned(NamedTuple):
    """A directory of this process, for as long as the descriptor is open."""

    path: str
    fd: int

    def give_up(self) -> None:
        """Give up the directory, if it is still there."""
        os.close(self.fd)


def make_owned(parent: str, prefix: str) -> Owned:
    """Make a directory below ``parent`` with a random name. Raises: OSError."""
    for _ in range(_TRIES):
        path = f"{parent}/{prefix}{secrets.token_hex(8)}"
        os.mkdir(path)  # noqa: PTH102 - text, as all paths in this package
        with suppress(FileNotFoundError):  # a sweeper was faster
            os.chmod(path, 0o700)  # noqa: PTH101 - as above; a umask takes from what mkdir is told
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


def enter_scratch(path: str) -> None:
    """Create the directory and have ``tempfile`` and programs started by the job use it."""
    try:
        os.mkdir(path)  # noqa: PTH102 - pathlib is not worth its import here
        os.chmod(path, 0o700)  # noqa: PTH101 - as above; a umask may take from what mkdir is told
    except OSError as error:
        message = f"cannot make the private directory {path}: {error}"
        raise MechanismMissing(message) from error
    os.environ["TMPDIR"] = path
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None  # type: ignore[attr-defined]  # looked up again, from TMPDIR


def sizes_below(path: str, *, hops: int = _HOPS) -> Iterator[int]:
    """Yield what each file and folder of a tree takes on the disk, one after the other, in bytes.

    Each counts for a block at least: so many empty files are a full disk too. What lies deeper than
    some 30,000 characters of path is not seen, nor what disappears meanwhile.
    """
    folders = [path]
    while folders:
        try:
            entries = os.scandir(folders.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    yield max(_BLOCK, entry.stat(follow_symlinks=False).st_blocks * 512)
                    is_folder = entry.is_dir(follow_symlinks=False)
                except OSError:
                    continue
                if is_folder and len(entry.path) > _LONG:
                    yield from _sizes_behind(entry.path, hops)
                elif is_folder:
                    folders.append(entry.path)


def _sizes_behind(path: str, hops: int) -> Iterator[int]:
    """Go on from a descriptor: the kernel takes no path of more than 4096 characters."""
    if not hops:
        return
    try:
        folder = os.open(path, _FOLDER)
    except OSError:
        return
    try:
        yield from sizes_below(f"/proc/self/fd/{folder}", hops=hops - 1)
    finally:
        os.close(folder)


def devices_in_memory() -> frozenset[int]:
    """Return the devices whose files are memory: tmpfs, and that of files without any name."""
    found = set()
    fd = os.memfd_create("sandboxq-device", os.MFD_CLOEXEC)
    found.add(os.fstat(fd).st_dev)
    os.close(fd)
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8") as mounts:  # noqa: PTH123 - as above
        for line in mounts:
            place, _, kind = line.partition(" - ")
            if kind.startswith(("tmpfs ", "ramfs ")):
                major, _, minor = place.split()[2].partition(":")
                found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)


def unlinked_sizes(pid: int, seen: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield device and bytes of files without a name that a process holds open, or has mapped.

    Each once: ``seen`` has device and inode of those that were told, or are not to be told. Files
    in memory are among them.
    """
    for place in _places_of_files(pid):
        try:
            facts = os.stat(place)  # noqa: PTH116 - pathlib is not worth its import here
        except OSError:
            continue
        key = facts.st_dev, facts.st_ino
        if stat.S_ISREG(facts.st_mode) and not facts.st_nlink and key not in seen:
            seen.add(key)
            yield facts.st_dev, facts.st_blocks * 512


def _places_of_files(pid: int) -> Iterator[str]:
    """Yield the paths of open files, and of mapped ones that have no name (for root alone)."""
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - as above
            yield f"/proc/{pid}/fd/{name}"
    with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as maps:  # noqa: PTH123 - as above
        for line in maps:
            if line.endswith(b" (deleted)\n"):
                yield f"/proc/{pid}/map_files/{line.split(b' ', 1)[0].decode()}"


def holds_passed_files(pid: int) -> bool:
    """Tell whether descriptors lie in a socket of a process, sent and not received.

    The files behind them are open, but no process shows them.
    """
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - as above
            with suppress(OSError), open(f"/proc/{pid}/fdinfo/{name}", "rb") as info:  # noqa: PTH123 - as above
                _, found, count = info.read().partition(b"scm_fds:")
                if found and int(count.split()[0]):
                    return True
    return False


def remove_scratch(path: str, *, until: float = inf) -> None:
    """Remove a directory tree of any depth, following no links; what resists is left.

    What lies in a folder is lifted to the top, again and again: a job may nest folders deeper than
    recursion, descriptors and the longest path reach. Names that nobody can guess: a job may have
    made folders that are in the way of what is lifted.

    Raises: TimeoutError ``until`` a time of the monotonic clock it is not done.
    """
    try:
        top = _open_folder(path, None)
    except OSError:
        return
    try:
        lifted, name_of_ours = 0, f".lifted-{os.urandom(8).hex()}-"
        while folders := _unlink_all(top, until):
            is_stuck = True
            for name in folders:
                lifted += _lift(name, top, f"{name_of_ours}{lifted}-", until)
                if _rmdir(name, top):
                    is_stuck = False
            if is_stuck:
                break
    finally:
        os.close(top)
    try:
        os.rmdir(path)  # noqa: PTH106 - pathlib is not worth its import here
    except OSError:
        return


def empty_scratch(folder: int, *, keep: Container[str], seconds: float) -> int:
    """Remove what is in an open folder, but for the names to ``keep``; return how many there were.

    Raises: TimeoutError when that takes longer than so many seconds.
    """
    until = time.monotonic() + seconds
    removed = 0
    for name in os.listdir(folder):
        if name in keep:
            continue
        if time.monotonic() > until:
            raise TimeoutError
        try:
            os.unlink(name, dir_fd=folder)
        except OSError:
            remove_scratch(f"/proc/self/fd/{folder}/{name}", until=until)
        removed += 1
    return removed


def _lift(name: str, top: int, name_of_ours: str, until: float) -> int:
    """Empty one folder; return how many folders were moved out of it."""
    try:
        folder = _open_folder(name, top)
    except OSError:
        return 0
    moved = 0
    try:
        for inner in _unlink_all(folder, until):
            lifted = f"{name_of_ours}{moved}"
            try:
                os.rename(inner, lifted, src_dir_fd=folder, dst_dir_fd=top)
            except OSError:
                continue
            moved += 1
    finally:
        os.close(folder)
    return moved


def _open_folder(name: str, top: int | None) -> int:
    """Open a folder to empty it, also one that a job has closed to itself. Raises: OSError."""
    place = os.open(name, _FOLDER | os.O_PATH, dir_fd=top)
    try:
        own = f"/proc/self/fd/{place}"  # this folder, whatever a job puts in its place
        with suppress(OSError):  # another user's, which may be open all the same
            os.chmod(own, 0o700)  # noqa: PTH101 - as above
        return os.open(own, _FOLDER & ~os.O_NOFOLLOW)
    finally:
        os.close(place)


def _unlink_all(folder: int, until: float) -> list[str]:
    """Unlink all but folders; return the names of these. Raises: TimeoutError."""
    folders = []
    for name in os.listdir(folder):
        if time.monotonic() > until:
            raise TimeoutError
        try:
            os.unlink(name, dir_fd=folder)
        except OSError:
            folders.append(name)
    return folders


def _rmdir(name: str, folder: int) -> bool:
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError:
        return False
    return True
