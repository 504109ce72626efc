"""Control groups, where they can be made: what a pool may use, and a kill that nobody escapes.

The fork server enters its group once and children are born in it. A group for each child would
cost it 10 ms, the price of an attach (execution-layer.md, E), where a child is ready in two. So
these limits are of all children together, above those of each: they hold in the tenth of a second
between two looks of the watches. Groups lie below the worker's own, whose limits stay in force;
nothing needs them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from typing import NamedTuple

from sandboxq.sandbox import family

_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_PREFIX = "sandboxq-"
_UNIFIED = ""  # as the kernel calls the controllers of v2
# What may be limited: its file in v2, in v1, and where the kernel counts what it ended for it.
_LIMIT_FILES = {
    "memory": ("memory.max", "memory.limit_in_bytes"),
    "pids": ("pids.max", "pids.max"),
}
_OOM_FILES = ("memory.events", "memory.oom_control")
# Of a process that was killed the group is free within milliseconds.
_LEAVE_SECONDS = 1.0
_numbers = itertools.count(1)


class Home(NamedTuple):
    """A folder in which groups can be made, and what can be limited there."""

    path: str
    controllers: tuple[str, ...]


def homes() -> list[Home]:
    """Return where this process may make groups: below its own, in v2 and for each of v1."""
    own = _own_folders()
    unified = own.pop(_UNIFIED, "")
    enabled = _read(f"{unified}/cgroup.subtree_control").split() if unified else []
    found = [Home(unified, tuple(each for each in _LIMIT_FILES if each in enabled))]
    found += [
        Home(own[each], (each,)) for each in _LIMIT_FILES if each in own and each not in enabled
    ]
    return [home for home in found if home.path and os.access(home.path, os.W_OK)]


def detail() -> str:
    """Say what is there, for people."""
    found = homes()
    limits = [each for home in found for each in home.controllers]
    return f"writable: {', '.join([*limits, 'kill'])}" if found else "not writable"


class Group:
    """The folders of one pool, one in each hierarchy; none where nothing is writable."""

    def __init__(self) -> None:
        """Make them, and remove those of workers that are gone."""
        self._homes: dict[str, Home] = {}
        self._oom_kills = 0
        name = f"{_owner_prefix(os.getpid())}{next(_numbers)}"
        for home in homes():
            _sweep(home.path)
            path = f"{home.path}/{name}"
            with contextlib.suppress(OSError):
                os.mkdir(path)  # noqa: PTH102 - text, as all paths here
                self._homes[path] = home
        self.limits: dict[str, int] = {}

    @property
    def folders(self) -> list[str]:
        """Where it is; empty when there is no group."""
        return list(self._homes)

    def limit(self, **most: int) -> None:
        """Raise the limits of ``memory`` (bytes) and ``pids``, where that is possible.

        Never lower: the kernel would end what has more already.
        """
        for path, home in self._homes.items():
            for name in home.controllers:
                if most.get(name, 0) > self.limits.get(name, 0) and _set(path, name, most[name]):
                    self.limits[name] = most[name]

    def keep_entered(self, pid: int) -> None:
        """Keep the folders that a process has entered: in others nothing would be limited."""
        for path in [path for path in self._homes if pid not in _members(path)]:
            home = self._homes.pop(path)
            _remove(path)
            for name in home.controllers:
                self.limits.pop(name, None)

    def has_run_out(self) -> bool:
        """Tell whether the kernel has ended a process for its memory since this was last asked."""
        count = sum(_oom_kills(path) for path in self._homes)
        is_new, self._oom_kills = count > self._oom_kills, count
        return is_new

    def kill(self) -> None:
        """Send SIGKILL to every process in it."""
        for path in self._homes:
            _kill(path)

    def remove(self) -> None:
        """End what is left in it, and remove it. Blocks for some milliseconds."""
        for path in self._homes:
            _remove(path)
        self._homes = {}


def enter(folders: list[str]) -> None:
    """Move this process, and what it forks from now on; a folder that refuses is passed over."""
    for folder in folders:
        _enter(folder)


def leave(folders: list[str]) -> None:
    """Move this process out, the last in them, and remove them."""
    for folder in folders:
        _enter(os.path.dirname(folder))  # noqa: PTH120 - as above
        with contextlib.suppress(OSError):
            os.rmdir(folder)  # noqa: PTH106 - as above


def groups_of(pid: int) -> list[str]:
    """Return the folders that the worker with this process id has made."""
    prefix = f"{_PREFIX}{pid}-"
    return [path for home in homes() for path in _ours(home.path) if _name(path).startswith(prefix)]


def _own_folders() -> dict[str, str]:
    """Return the folder of this process for each controller, '' being v2."""
    found = {}
    for line in _read("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            roots = _ROOTS if name == _UNIFIED else (f"{_ROOTS[0]}/{name}",)
            for root in roots:
                folder = root + path.rstrip("/")
                if os.path.exists(f"{folder}/cgroup.procs"):  # noqa: PTH110 - as above
                    found[name] = folder
    return found


def _owner_prefix(pid: int) -> str:
    return f"{_PREFIX}{pid}-{_started(pid)}-"


def _started(pid: int) -> str:
    """Return when a process was started, in ticks: numbers are given to others later."""
    fields = _read(f"/proc/{pid}/stat").rpartition(") ")[2].split()
    return fields[19] if len(fields) > 19 else ""  # noqa: PLR2004 - proc(5): field 22, from the third


def _sweep(home: str) -> None:
    """Remove groups of workers that were killed, with what lives in them."""
    for path in _ours(home):
        pid = _name(path).removeprefix(_PREFIX).partition("-")[0]
        is_dead = pid.isdigit() and not _name(path).startswith(_owner_prefix(int(pid)))
        # Members of another pid namespace are 0 here, and so may the worker be one.
        if is_dead and 0 not in _members(path):
            _remove(path)


def _ours(home: str) -> list[str]:
    try:
        names = os.listdir(home)  # noqa: PTH208 - as above
    except OSError:
        return []
    return [f"{home}/{name}" for name in names if name.startswith(_PREFIX)]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _set(path: str, name: str, most: int) -> bool:
    return any(_write(f"{path}/{file}", str(most)) for file in _LIMIT_FILES[name])


def _kill(path: str) -> None:
    """Send SIGKILL to all in a group; v1 has no call for it, and may start more meanwhile."""
    if not _write(f"{path}/cgroup.kill", "1"):
        family.kill_all([pid for pid in _members(path) if pid])  # 0 would be our own group


def _remove(path: str) -> None:
    """Remove a group with those that jobs made in it; the next worker sweeps what stays."""
    deadline = time.monotonic() + _LEAVE_SECONDS
    while os.path.isdir(path) and time.monotonic() < deadline:  # noqa: PTH112 - as above
        for folder, _, _ in os.walk(path, topdown=False):
            _kill(folder)
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106 - as above
        time.sleep(0.002)


def _members(path: str) -> list[int]:
    return [int(pid) for pid in _read(f"{path}/cgroup.procs").split()]


def _oom_kills(path: str) -> int:
    lines = [line for file in _OOM_FILES for line in _read(f"{path}/{file}").splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _enter(folder: str) -> None:
    _write(f"{folder}/cgroup.procs", "0")


def _write(path: str, text: str) -> bool:
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


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is not worth its import here
            return file.read()
    except OSError:
        return ""
