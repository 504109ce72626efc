"""What jobs put in the place of others' code: names of modules, hooks of gc, imports and signals.

What is put there by a library stays, as it would miss it; all else is a job's own.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import sysconfig
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sandboxq.child.seen import Seen, SeenList, changes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIBRARIES = tuple(
    {sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib")} | {"/dist-packages/"}
)
# Of what the kernel tells more than enough; a larger buffer is memory of each child.
_READ_SIZE = 4096
# Two lines of it: the ignored signals and the caught ones.
_MASKS_SIZE = 2 * len("SigIgn:\t0123456789abcdef\n")
# What people replace. Not all there is: to look at an object copies its page in each child.
_NAMES = {
    "datetime": ("date", "datetime", "timedelta"),
    "json": ("dump", "dumps", "load", "loads"),
    "logging": ("Logger", "getLogger", "shutdown"),
    "os": ("environ", "getcwd", "getenv", "listdir", "open", "path", "remove", "system"),
    "random": ("choice", "randint", "random", "sample", "seed", "shuffle", "uniform"),
    "socket": ("create_connection", "getaddrinfo", "socket"),
    "subprocess": ("Popen", "call", "check_call", "check_output", "run"),
    "sys": ("displayhook", "exit"),
    "threading": ("Event", "Lock", "Thread", "current_thread"),
    "time": ("monotonic", "perf_counter", "sleep", "time"),
    "urllib.request": ("Request", "urlopen"),
}
_GONE = object()


class Names:
    """The names above, of those modules that were there before the first job, and themselves."""

    def __init__(self) -> None:
        """Find those modules."""
        there = [name for name in _NAMES if name in sys.modules]
        # Of each dictionary, names that are in it: the modules, and what is in them.
        self._dicts = [(sys.modules, ("sys", "builtins", *there))]
        self._dicts += [(vars(sys.modules[name]), _NAMES[name]) for name in there]
        self._readers = [reader_of(each, names) for each, names in self._dicts]

    def read(self) -> list[tuple[Any, ...]]:
        """Return what they mean now; nothing where one has gone."""
        return [read() for read in self._readers]

    def restore(self, was: list[tuple[Any, ...]]) -> None:
        """Put back what no library has put there."""
        for (each, names), then in zip(self._dicts, was, strict=True):
            _put_back(each, dict(zip(names, then, strict=False)))  # nothing: never whole


def reader_of(values: dict[str, Any], names: Sequence[str]) -> Seen:
    """Return what returns the values of some names, or nothing when one has gone."""
    get = itemgetter(*names)  # of two names at least: then it returns a tuple

    def read() -> Any:
        try:
            return get(values)
        except KeyError:
            return ()

    return Seen(read, changes_of(values))


# Made in the zygote, and good for a child unless its setup() has imported more.
names_there = Seen(Names, changes_of(sys.modules))


def _put_back(now: dict[str, Any], was: dict[str, Any]) -> None:
    for name, value in was.items():
        found = now.get(name, _GONE)
        if found is not value and not is_of_library(found):
            now[name] = value


def hooks() -> list[list[Any]]:
    """Return the hooks that may be added to by anybody."""
    return [_callbacks(), _finders(), _path_hooks()]


def restore_hooks(was: list[list[Any]]) -> None:
    """Put back those that are missing, in their order, and remove what no library has added."""
    for each, then in zip(_lists(), was, strict=True):
        added = [hook for hook in each if hook not in then and is_of_library(hook)]
        first = each[: each.index(then[0])] if then and then[0] in each else []
        each[:] = [
            *(hook for hook in added if hook in first),
            *then,
            *(hook for hook in added if hook not in first),
        ]


def _lists() -> tuple[list[Any], ...]:
    return gc.callbacks, sys.meta_path, sys.path_hooks


_callbacks = SeenList(lambda: gc.callbacks)
_finders = SeenList(lambda: sys.meta_path)
_path_hooks = SeenList(lambda: sys.path_hooks)


def is_of_library(value: object) -> bool:
    """Tell whether the code of something comes from an installed library."""
    code = getattr(value, "__code__", None)
    path = getattr(code, "co_filename", None)
    if path is None:
        kind = value if isinstance(value, type) else type(value)
        module = sys.modules.get(str(getattr(kind, "__module__", "")))
        path = getattr(module, "__file__", None)
    return isinstance(path, str) and any(each in path for each in _LIBRARIES)


# ── signals and timers of C code ──


def wakeup_fd() -> int:
    """Return what signals are written to, which is only read by setting it."""
    was = signal.set_wakeup_fd(-1)
    if was >= 0:
        signal.set_wakeup_fd(was)
    return was


class KernelView:
    """Which signals are caught or ignored, and how many POSIX timers run, as the kernel says."""

    def __init__(self) -> None:
        """Open what tells."""
        self.fds = self._status, self._timers = _opened("status"), _opened("timers")

    def read(self) -> tuple[bytes, int]:
        """Return the masks of signals and the number of timers, in about 20 µs."""
        status, timers = _text_of(self._status), _text_of(self._timers)
        start = status.find(b"SigIgn:")
        return status[start : start + _MASKS_SIZE], timers.count(b"ID:")


def _opened(name: str) -> int:
    """Return a descriptor; -1: the kernel has no such file, or it is not to be read here."""
    try:
        return os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _text_of(fd: int) -> bytes:
    return b"" if fd < 0 else os.pread(fd, _READ_SIZE, 0)
