"""The control groups of one child: what it and all that it starts may use, and who they are.

fork server ─► name ──fork──► child: makes, enters and limits them, ahead of its order
(it ends) ─► fork server: what did the kernel end it for?  kill what is left, remove
coordinator ─► what does it hold that no process shows? (memory of files, pipes, sockets)
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.sandbox import cgroup

if TYPE_CHECKING:
    from collections.abc import Mapping

# A limit of memory in v2, and what says how much is used, and was at most; then those of v1.
_MAX = "memory.max"
_USED = {_MAX: "memory.current", "memory.limit_in_bytes": "memory.usage_in_bytes"}
_PEAK = {_MAX: "memory.peak", "memory.limit_in_bytes": "memory.max_usage_in_bytes"}
# What cannot be given back: memory of processes, of files in memory, and in v2 the kernel's for
# them, without what it can forget. In v1 that is in no file, but the limit counts it all the same.
_HELD = ("anon", "shmem", "kernel", "sock")
_HELD_V1 = ("total_rss", "total_shmem")
_FORGETTABLE = "slab_reclaimable"
# The kernel ends processes when the next page is refused, which is a few pages earlier.
_NEARLY = 0.98

# Each folder of a group, with the files of its limits by what they limit: cgroup.Group.limit_files.
LimitFiles = dict[str, dict[str, str]]


class ChildGroup(NamedTuple):
    """The folders of one child, one below each of the pool's; they may not exist."""

    files: LimitFiles

    @property
    def name(self) -> str:
        """How they are called in the pool's folders; nothing when the pool has none."""
        return next((path.rpartition("/")[2] for path in self.files), "")

    def enter(self) -> None:
        """Make them and move this process there; what the kernel refuses is passed over."""
        for path in self.files:
            with suppress(OSError):
                os.mkdir(path, 0o700)  # noqa: PTH102 - text, as all paths here
            cgroup.enter_folder(path)

    def limit(self, most: Mapping[str, int]) -> None:
        """Set limits of ``memory`` (bytes) and ``pids`` where there is a controller for them."""
        for path, files in self.files.items():
            for name, file in files.items():
                if name in most:
                    cgroup.write(f"{path}/{file}", str(most[name]))

    def memory_limit_met(self) -> int | None:
        """Return the limit of its own for which the kernel ended a process here.

        0 when the want was that of all children together, None when there was none.
        """
        for path, file in self._memory():
            if cgroup.oom_kills(path):
                own, peak = _number(path, file), _number(path, _PEAK[file])
                return own if peak >= own * _NEARLY else 0
        return None

    def end(self) -> bool:
        """Kill what is left, and remove them; tell whether they are gone."""
        for path in self.files:
            for folder, _, _ in os.walk(path, topdown=False):  # jobs may have made groups there
                cgroup.kill(folder)
                with suppress(OSError):
                    os.rmdir(folder)  # noqa: PTH106 - as above
        return not any(map(os.path.exists, self.files))

    def held(self, beyond: int) -> int:
        """Return the bytes that cannot be given back, 0 when all there is is no more than that.

        What was there before the child was forked is not its own.
        """
        for path, file in self._memory():
            if _number(path, _USED[file]) > beyond:
                return _held(path)
        return 0

    def _memory(self) -> list[tuple[str, str]]:
        """Return the folder where memory is counted, and the file of its limit; or nothing."""
        return [(path, files["memory"]) for path, files in self.files.items() if "memory" in files]


def new_child_group(files: LimitFiles) -> ChildGroup:
    """Return groups below the folders of a pool, under a name that nobody can guess."""
    return child_group(files, f"c-{secrets.token_hex(8)}")


def child_group(files: LimitFiles, name: str) -> ChildGroup:
    """Return the groups of a child by their name."""
    return ChildGroup({f"{folder}/{name}": each for folder, each in files.items()} if name else {})


def _number(path: str, file: str) -> int:
    """Return what a file says, 0 when it is not there; ten times a second for each child."""
    try:
        fd = os.open(f"{path}/{file}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        text = os.read(fd, 64)
    except OSError:
        return 0
    finally:
        os.close(fd)
    return int(text) if text.strip().isdigit() else 0


def _held(path: str) -> int:
    rows = [line.split() for line in cgroup.read(f"{path}/memory.stat").splitlines()]
    figures = {row[0]: int(row[1]) for row in rows}
    if _HELD_V1[0] in figures:
        return sum(figures.get(name, 0) for name in _HELD_V1)
    held = sum(figures.get(name, 0) for name in _HELD)
    return held - (figures.get(_FORGETTABLE, 0) if "kernel" in figures else 0)
