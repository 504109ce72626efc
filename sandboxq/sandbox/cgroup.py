"""Control groups, where they can be made: what children may use, and a kill that nobody escapes.

    <the worker's own>/sandboxq-pool-NAME/   of one pool: limits of all children together
                          server/            the fork server
                          c-NAME/            one child, with all that it starts: child_group.py

To enter a group takes some 10 ms when nobody did so lately (the kernel waits for all cores): a
spare does it, ahead of need. Limits hold in the tenth of a second between two looks of the watches.
Groups lie below the worker's own, whose limits stay in force; nothing needs them.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

from sandboxq.sandbox import family
from sandboxq.sandbox.ownership import Owned, abandoned, make_owned

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
    enabled = read(f"{unified}/cgroup.subtree_control").split() if unified else []
    found = [Home(unified, tuple(each for each in _LIMIT_FILES if each in enabled), is_v2=True)]
    found += [
        Home(own[each], (each,)) for each in _LIMIT_FILES if each in own and each not in enabled
    ]
    return [home for home in found if home.path and os.access(home.path, os.W_OK)]


def detail() -> str:
    """Say what is there, for people."""
    found = homes()
    limits = [each for home in found for each in home.controllers]
    return f"writable: {', '.join([*limits, 'kill'])}" if found else "not writable"


# Of this process, and not removed yet.
_own: set[str] = set()


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
    """Move this process, a fork server; a folder that refuses is passed over."""
    for folder in folders:
        enter_folder(f"{folder}/{_SERVER}")


def leave(folders: list[str]) -> None:
    """Move this process out, the last in them, and remove them."""
    for folder in folders:
        enter_folder(os.path.dirname(folder))  # noqa: PTH120 - as above
        for each, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(each)  # noqa: PTH106 - as above


def own_groups() -> list[str]:
    """Return the folders that this process has made and not removed yet."""
    return sorted(_own)


def _own_folders() -> dict[str, str]:
    """Return the folder of this process for each controller, '' being v2."""
    found = {}
    for line in read("/proc/self/cgroup").splitlines():
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
        family.kill_all([pid for pid in members(path) if pid])  # 0 would be our own group


def _remove(path: str) -> None:
    """Remove a group with those that jobs made in it; the next worker sweeps what stays."""
    deadline = time.monotonic() + _LEAVE_SECONDS
    while os.path.isdir(path) and time.monotonic() < deadline:  # noqa: PTH112 - as above
        for folder, _, _ in os.walk(path, topdown=False):
            kill(folder)
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106 - as above
        time.sleep(0.002)


def members(path: str) -> list[int]:
    """Return the processes in a group, without those below it; 0 is one of another namespace."""
    return [int(pid) for pid in read(f"{path}/cgroup.procs").split()]


def oom_kills(path: str) -> int:
    """Return how many processes of a group the kernel has ended for want of memory."""
    lines = [line for file in _OOM_FILES for line in read(f"{path}/{file}").splitlines()]
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


def read(path: str) -> str:
    """Return the text of a file, nothing when it is not there."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is not worth its import here
            return file.read()
    except OSError:
        return ""
