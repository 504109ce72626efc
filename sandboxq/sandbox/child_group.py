"""The control groups of one child: what it and all that it starts may use, and who they are.

fork server ─► name ──fork──► child: makes and enters them, limits them when its order comes
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
    from collections.abc import Iterable

# Its file in v2 and in v1.
_USED = ("memory.current", "memory.usage_in_bytes")
_PEAK = ("memory.peak", "memory.max_usage_in_bytes")
_LIMIT = ("memory.max", "memory.limit_in_bytes")
# What cannot be given back: memory of processes, of files in memory, and in v2 the kernel's for
# them, without what it can forget. In v1 that is in no file, but the limit counts it all the same.
_HELD = ("anon", "shmem", "kernel", "sock")
_HELD_V1 = ("total_rss", "total_shmem")
_FORGETTABLE = "slab_reclaimable"
# The kernel ends processes when the next page is refused, which is a few pages earlier.
_NEARLY = 0.98


class ChildGroup(NamedTuple):
    """The folders of one child, one below each of the pool's; they may not exist."""

    paths: tuple[str, ...]

    @property
    def name(self) -> str:
        """How they are called in the pool's folders; nothing when the pool has none."""
        return self.paths[0].rpartition("/")[2] if self.paths else ""

    def enter(self) -> None:
        """Make them and move this process there; what the kernel refuses is passed over."""
        for path in self.paths:
            with suppress(OSError):
                os.mkdir(path, 0o700)  # noqa: PTH102 - text, as all paths here
            cgroup.enter_folder(path)

    def limit(self, **most: int) -> None:
        """Set limits of ``memory`` (bytes) and ``pids`` where there is a controller for them."""
        for path in self.paths:
            for name, value in most.items():
                cgroup.set_limit(path, name, value)

    def memory_limit_met(self) -> int | None:
        """Return the limit of its own for which the kernel ended a process here.

        0 when the want was that of all children together, None when there was none.
        """
        if not any(map(cgroup.oom_kills, self.paths)):
            return None
        own, peak = _largest(self.paths, _LIMIT), _largest(self.paths, _PEAK)
        return own if peak >= own * _NEARLY else 0

    def end(self) -> bool:
        """Kill what is left, and remove them; tell whether they are gone."""
        for path in self.paths:
            for folder, _, _ in os.walk(path, topdown=False):  # jobs may have made groups there
                cgroup.kill(folder)
                with suppress(OSError):
                    os.rmdir(folder)  # noqa: PTH106 - as above
        return not any(map(os.path.exists, self.paths))

    def held(self, beyond: int) -> int:
        """Return the bytes that cannot be given back, 0 when all there is is no more than that.

        What was there before the child was forked is not its own.
        """
        if _largest(self.paths, _USED) <= beyond:
            return 0
        return max((_held(path) for path in self.paths), default=0)


def new_child_group(folders: Iterable[str]) -> ChildGroup:
    """Return groups below these folders of a pool, under a name that nobody can guess."""
    return child_group(folders, f"c-{secrets.token_hex(8)}")


def child_group(folders: Iterable[str], name: str) -> ChildGroup:
    """Return the groups of a child by their name."""
    return ChildGroup(tuple(f"{folder}/{name}" for folder in folders) if name else ())


def _largest(paths: Iterable[str], files: tuple[str, ...]) -> int:
    texts = [cgroup.read(f"{path}/{file}").strip() for path in paths for file in files]
    return max((int(text) for text in texts if text.isdigit()), default=0)


def _held(path: str) -> int:
    rows = [line.split() for line in cgroup.read(f"{path}/memory.stat").splitlines()]
    figures = {row[0]: int(row[1]) for row in rows}
    if _HELD_V1[0] in figures:
        return sum(figures.get(name, 0) for name in _HELD_V1)
    held = sum(figures.get(name, 0) for name in _HELD)
    return held - (figures.get(_FORGETTABLE, 0) if "kernel" in figures else 0)
