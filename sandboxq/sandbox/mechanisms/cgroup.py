"""Control groups, where they can be made: what children may use, and a kill that nobody escapes.

    <the worker's own>/sandboxq-pool-NAME/   of one pool: limits of all children together
                          server/            the zygote
                          c-NAME/            one child, with all that it starts

Entering a group takes some 10 ms when no process did so lately (the kernel waits for all cores): a
spare does it in advance. Limits also hold in the tenth of a second between two checks of the
watches. Groups are below the worker's own, whose limits stay in force; they are optional.

zygote ─► name ──fork──► child: makes, enters and limits its groups, before its order
(it ends) ─► zygote: which limit did the kernel end it for?  kills what is left, removes the groups
coordinator ─► how much memory does it hold that no process shows? (files, pipes, sockets)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.sandbox import processes
from sandboxq.sandbox.processes import read_file, read_text
from sandboxq.sandbox.scratch import Owned, abandoned, make_owned

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_PREFIX = "sandboxq-pool-"
_SERVER = "server"
_UNIFIED = ""  # as the kernel calls the controllers of v2
# What may be limited: its file in v2, and in v1. Below: where the kernel counts what it has ended.
_LIMIT_FILES = {
    "memory": ("memory.max", "memory.limit_in_bytes"),
    "pids": ("pids.max", "pids.max"),
}
_OOM_FILES = ("memory.events", "memory.oom_control")
# Of a process that was killed the group is free within milliseconds.
_LEAVE_SECONDS = 1.0

# Of this process, and not removed yet.
_own: set[str] = set()
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


class Home(NamedTuple):
    """A folder in which groups can be made, and what can be limited there."""

    path: str
    controllers: tuple[str, ...]
    is_v2: bool = False

    @property
    def limit_files(self) -> dict[str, str]:
        """The file of each limit, by what it limits."""
        return {name: _LIMIT_FILES[name][not self.is_v2] for name in self.controllers}


def homes() -> list[Home]:
    """Return where this process may make groups: below its own, in v2 and for each of v1."""
    own = _own_folders()
    unified = own.pop(_UNIFIED, "")
    enabled = read_text(f"{unified}/cgroup.subtree_control").split() if unified else []
    found = [Home(unified, tuple(each for each in _LIMIT_FILES if each in enabled), is_v2=True)]
    found += [
        Home(own[each], (each,)) for each in _LIMIT_FILES if each in own and each not in enabled
    ]
    return [home for home in found if home.path and os.access(home.path, os.W_OK)]


def detail() -> str:
    """Return what is there, for people."""
    found = homes()
    limits = [each for home in found for each in home.controllers]
    return f"writable: {', '.join([*limits, 'kill'])}" if found else "not writable"


class Group:
    """The folders of one pool, one in each hierarchy; none where nothing is writable."""

    def __init__(self) -> None:
        """Make them, and remove those of workers that are gone."""
        self._homes: dict[str, Home] = {}
        self._owned: dict[str, Owned] = {}
        for home in homes():
            for path in abandoned(home.path, _PREFIX):
                _remove(path)
            with contextlib.suppress(OSError):
                self._make(home)
        self.limits: dict[str, int] = {}

    def _make(self, home: Home) -> None:
        owned = make_owned(home.path, _PREFIX)
        self._homes[owned.path], self._owned[owned.path] = home, owned
        _own.add(owned.path)
        enabled = " ".join(f"+{name}" for name in home.controllers)
        write(f"{owned.path}/cgroup.subtree_control", enabled)  # v2; it has no processes of its own
        os.mkdir(f"{owned.path}/{_SERVER}")  # noqa: PTH102 - as above

    @property
    def folders(self) -> list[str]:
        """Where it is; empty when there is no group."""
        return list(self._homes)

    @property
    def limit_files(self) -> dict[str, dict[str, str]]:
        """Each folder, with the files of its limits by what they limit."""
        return {path: home.limit_files for path, home in self._homes.items()}

    def limit(self, **most: int) -> None:
        """Raise the limits of ``memory`` (bytes) and ``pids``, where that is possible.

        Never lower: the kernel would end what has more already.
        """
        for path, home in self._homes.items():
            for name, file in home.limit_files.items():
                value = most.get(name, 0)
                if value > self.limits.get(name, 0) and write(f"{path}/{file}", str(value)):
                    self.limits[name] = value

    def keep_entered(self, pid: int) -> None:
        """Keep the folders that a process has entered: in others nothing would be limited."""
        for path in [path for path in self._homes if pid not in members(f"{path}/{_SERVER}")]:
            home = self._homes.pop(path)
            self._give_back(path)
            for name in home.controllers:
                self.limits.pop(name, None)

    def kill(self) -> None:
        """Send SIGKILL to every process in it."""
        for path in self._homes:
            for folder, _, _ in os.walk(path, topdown=False):
                kill(folder)

    def remove(self) -> None:
        """End what is left in it, and remove it; twice is harmless. Blocks for milliseconds."""
        for path in list(self._homes):
            self._give_back(path)
        self._homes = {}

    def _give_back(self, path: str) -> None:
        _remove(path)
        _own.discard(path)
        owned = self._owned.pop(path, None)
        if owned is not None:
            owned.give_up()


def enter(folders: list[str]) -> None:
    """Move this process, a zygote; a folder that refuses is passed over."""
    for folder in folders:
        enter_folder(f"{folder}/{_SERVER}")


def leave(folders: list[str]) -> None:
    """Move this process out, the last in them, and remove them."""
    for folder in folders:
        enter_folder(os.path.dirname(folder))  # noqa: PTH120 - as above
        for each, _, _ in os.walk(folder, topdown=False):
            _is_removed(each)


def own_groups() -> list[str]:
    """Return the folders that this process has made and not removed yet."""
    return sorted(_own)


def _own_folders() -> dict[str, str]:
    """Return the folder of this process for each controller, '' being v2."""
    found = {}
    for line in read_text("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            roots = _ROOTS if name == _UNIFIED else (f"{_ROOTS[0]}/{name}",)
            for root in roots:
                folder = root + path.rstrip("/")
                if os.path.exists(f"{folder}/cgroup.procs"):  # noqa: PTH110 - as above
                    found[name] = folder
    return found


def kill(path: str) -> None:
    """Send SIGKILL to all in a group; v1 has no call for it, and may start more meanwhile."""
    if not write(f"{path}/cgroup.kill", "1"):
        processes.kill_all([pid for pid in members(path) if pid])  # 0 would be our own group


def _remove(path: str) -> None:
    """Remove a group with those that jobs made in it; the next worker sweeps what stays."""
    deadline = time.monotonic() + _LEAVE_SECONDS
    while not _is_ended(path) and time.monotonic() < deadline:
        time.sleep(0.002)


def _is_ended(path: str) -> bool:
    """Kill what is left in a group and those that jobs made in it; tell whether it is removed."""
    if _is_removed(path):
        return True  # nearly always, of a child that has ended
    for folder, _, _ in os.walk(path, topdown=False):
        kill(folder)
        _is_removed(folder)
    return not os.path.exists(path)  # noqa: PTH110 - as above


def _is_removed(path: str) -> bool:
    """Remove a group in which nothing is; tell whether it is gone."""
    try:
        os.rmdir(path)  # noqa: PTH106 - as above
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def members(path: str) -> list[int]:
    """Return the processes in a group, without those below it; 0 is one of another namespace."""
    return [int(pid) for pid in read_text(f"{path}/cgroup.procs").split()]


def oom_kills(path: str) -> int:
    """Return how many processes of a group the kernel has ended for want of memory."""
    lines = [line for file in _OOM_FILES for line in read_text(f"{path}/{file}").splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def enter_folder(folder: str) -> None:
    """Move this process, and what it forks from now on."""
    write(f"{folder}/cgroup.procs", "0")


def write(path: str, text: str) -> bool:
    """Write to a file that is there; tell whether the kernel took it."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


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
            enter_folder(path)

    def limit(self, most: Mapping[str, int]) -> None:
        """Set limits of ``memory`` (bytes) and ``pids`` where there is a controller for them."""
        for path, files in self.files.items():
            for name, file in files.items():
                if name in most:
                    write(f"{path}/{file}", str(most[name]))

    def memory_limit_met(self) -> int | None:
        """Return the limit of its own for which the kernel ended a process here.

        0 when the want was that of all children together, None when there was none.
        """
        for path, file in self._memory():
            if oom_kills(path):
                own, peak = _number(path, file), _number(path, _PEAK[file])
                return own if peak >= own * _NEARLY else 0
        return None

    def end(self) -> bool:
        """Kill what is left, and remove them; tell whether they are gone."""
        left = [path for path in self.files if not _is_ended(path)]
        return not left

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
    """Return groups below the folders of a pool, with a random name."""
    return child_group(files, f"c-{secrets.token_hex(8)}")


def child_group(files: LimitFiles, name: str) -> ChildGroup:
    """Return the groups of a child by their name."""
    return ChildGroup({f"{folder}/{name}": each for folder, each in files.items()} if name else {})


def _number(path: str, file: str) -> int:
    """Return what a file says, 0 when it is not there; ten times a second for each child."""
    text = read_file(f"{path}/{file}").strip()
    return int(text) if text.isdigit() else 0


def _held(path: str) -> int:
    rows = [line.split() for line in read_text(f"{path}/memory.stat").splitlines()]
    figures = {row[0]: int(row[1]) for row in rows}
    if _HELD_V1[0] in figures:
        return sum(figures.get(name, 0) for name in _HELD_V1)
    held = sum(figures.get(name, 0) for name in _HELD)
    return held - (figures.get(_FORGETTABLE, 0) if "kernel" in figures else 0)
