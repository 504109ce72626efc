"""What a process may do with files, kept by the kernel (man 7 landlock).

The part of a ruleset that is the same for every child is made in advance:

    zygote, idle ─► prepare ─► ruleset ──fork──► child: take, add its own paths, enforce
                            ▲                    └──► zygote: drop
                            └────────────────────────────┘

Each ruleset is for one child: a path that is added holds for all processes with the descriptor.

Every ruleset grants what any Python program reads: interpreter, libraries, the code on its path.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import sys
from functools import cache

from sandboxq.errors import MechanismMissing

_SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/fonts",
    "/etc/mime.types",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/dev/zero",
    "/dev/urandom",
    "/dev/random",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
)
# Another place in every process: a zygote cannot open it for its children.
OWN = "/proc/self"
_NETWORK = (
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/run/systemd/resolve",
)
_PROGRAMS = ("/bin", "/sbin", "/etc/alternatives")
# System calls, alike on every architecture.
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_MAKE_CHAR = 1 << 6
_MAKE_BLOCK = 1 << 11
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_IOCTL_DEVICE = 1 << 15
# Of these alone a rule about a file, and not a directory, may speak.
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
# ABI version → how many rights on files it knows (the lowest bits).
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_ABI, _SCOPE_ABI = 4, 6
_TCP_BIND_AND_CONNECT = 3
_ABSTRACT_SOCKETS_AND_SIGNALS = 3
_libc = ctypes.CDLL(None, use_errno=True)
_Options = dict[str, bool]
# Device and inode; None where nothing is.
_Seen = list[tuple[int, int] | None]


@cache
def readable_by_default(*, network: bool, subprocess: bool) -> list[str]:
    """Return paths besides OWN; some may not exist here.

    Of folders with sources what begins with a dot is left out: .env, .git, .ssh, and .sandboxq
    with the data and the socket of the embedded server; and pyproject.toml.
    """
    found = dict.fromkeys(_SYSTEM)
    if network:
        found |= dict.fromkeys(_NETWORK)
    if subprocess:
        found |= dict.fromkeys(_PROGRAMS)
    homes = [path for path in (sys.prefix, sys.base_prefix, sys.exec_prefix) if path != "/"]
    found |= dict.fromkeys(homes)
    for folder in sys.path:
        if not any(_is_below(folder, home) for home in homes):
            found |= dict.fromkeys(visible_entries(folder))
    return list(found)


def source_folders() -> list[str]:
    """Return the folders whose names Python lists when it imports."""
    folders = [os.path.abspath(folder) for folder in sys.path]  # noqa: PTH100 - pathlib is not worth its import here
    return [folder for folder in folders if folder not in _wide_folders()]


def visible_entries(folder: str) -> list[str]:
    """Return what of a folder with sources may be read; of a very wide one the sources alone."""
    folder = os.path.abspath(folder)  # noqa: PTH100 - pathlib is not worth its import here
    if not os.path.isdir(folder):  # noqa: PTH112 - as above
        return [folder]  # a zip file
    try:
        names = [name for name in os.listdir(folder) if not _is_hidden(name)]  # noqa: PTH208 - as above
    except OSError:
        return []
    if folder in _wide_folders():
        names = [name for name in names if name.endswith(".py")]
    return [f"{folder}/{name}" for name in names]


def _is_hidden(name: str) -> bool:
    """Tell whether a file beside sources is none: pyproject.toml may hold Redis's password."""
    return name.startswith(".") or name == "pyproject.toml"


def _wide_folders() -> tuple[str, ...]:
    """Return where too much else lies for all of it to be sources."""
    return ("/", os.path.expanduser("~"), "/tmp", "/var/tmp")  # noqa: PTH111, S108 - as above; nothing is written


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def abi() -> int:
    """Return the version of Landlock's interface, 0 where there is none."""
    if not hasattr(_libc, "syscall"):
        return 0
    version = _libc.syscall(
        ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION)
    )
    return max(0, int(version))


def reading_ruleset(system: list[str], listed: list[str], options: dict[str, bool]) -> int:
    """Return a ruleset that grants reading below ``system``; nothing is enforced yet.

    Below ``listed`` the names may be seen. What is missing of either is passed over.
    ``options``: ``network`` leaves TCP alone, ``subprocess`` lets what may be read be executed.
    It is for one process: a path that is added holds for all processes with the descriptor.
    Raises: MechanismMissing.
    """
    handled = _handled()
    ruleset = _new_ruleset(abi(), handled, is_tcp_free=options["network"])
    reading = _reading(options) & handled
    for path in system:
        _add_rule(ruleset, path, reading, is_needed=False)
    for path in listed:
        _add_rule(ruleset, path, _READ_DIR, is_needed=False)
    writing = _WRITE_FILE | _TRUNCATE
    _add_rule(ruleset, os.devnull, (reading | writing) & handled, is_needed=True)
    return ruleset


def restrict_files(
    ruleset: int, *, own: str, read: list[str], write: list[str], options: dict[str, bool]
) -> None:
    """Grant what the ruleset does, reading below ``read``, all below ``write``, and nothing else.

    ``own`` is read too, where it is there.

    The ruleset is used up. For good, also for what is started.
    Raises: MechanismMissing.
    """
    handled = _handled()
    writing = handled & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEVICE)
    if not options["subprocess"]:
        writing &= ~_EXECUTE
    reading = _reading(options) & handled
    _add_rule(ruleset, own, reading, is_needed=False)
    for path in read:
        _add_rule(ruleset, path, reading, is_needed=True)
    for path in write:
        _add_rule(ruleset, path, writing, is_needed=True)
    _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    os.close(ruleset)


def _handled() -> int:
    """Return the rights on files that this kernel knows: all are refused where not granted."""
    return (1 << _RIGHTS_BY_ABI.get(min(abi(), 5), 0)) - 1


def _reading(options: dict[str, bool]) -> int:
    return _READ_FILE | _READ_DIR | (_EXECUTE if options["subprocess"] else 0)


def _new_ruleset(version: int, handled: int, *, is_tcp_free: bool) -> int:
    fields = [handled]
    if version >= _NETWORK_ABI:
        fields.append(0 if is_tcp_free else _TCP_BIND_AND_CONNECT)
    if version >= _SCOPE_ABI:
        fields.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
    raw = struct.pack(f"<{len(fields)}Q", *fields)
    return _call(_CREATE_RULESET, raw, ctypes.c_size_t(len(raw)), ctypes.c_uint(0))


def _add_rule(ruleset: int, path: str, rights: int, *, is_needed: bool) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if not is_needed:
            return
        message = f"the policy grants {path}, which cannot be opened: {error.strerror}"
        raise MechanismMissing(message) from error
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("<Qi", rights, place)
        _call(
            _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_uint(_PATH_BENEATH), rule, ctypes.c_uint(0)
        )
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        message = f"the kernel refused Landlock: {errno.errorcode.get(code, code)}"
        raise MechanismMissing(message)
    return result


class RulesetAhead:
    """Keeps one ruleset, and the options for which it was made."""

    def __init__(self) -> None:
        """Begin without one."""
        self._ruleset = -1
        self._options: _Options = {}
        self._seen: _Seen = []

    def prepare(self, options: _Options) -> None:
        """Have a ruleset for these options, and for the files that are there now.

        A file that was replaced has another inode, which the ruleset would not grant.
        """
        paths = [*readable_by_default(**options), *source_folders()]
        seen = [_identity(path) for path in paths]
        if self._ruleset >= 0 and (options, seen) == (self._options, self._seen):
            return
        self.drop()
        self._options, self._seen = options, seen
        with contextlib.suppress(MechanismMissing):  # the child will meet it too, and tell
            self._ruleset = _made(options)

    def take(self, options: _Options) -> int:
        """Return the ruleset, or a new one where none was prepared for these options."""
        if options != self._options:
            self.drop()
        ruleset, self._ruleset = self._ruleset, -1
        return ruleset if ruleset >= 0 else _made(options)

    def drop(self) -> None:
        """Close it: a child has it, or it is not needed."""
        if self._ruleset >= 0:
            os.close(self._ruleset)
            self._ruleset = -1


def _made(options: _Options) -> int:
    system = readable_by_default(**options)
    return reading_ruleset(system, source_folders(), options)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)  # noqa: PTH116 - pathlib is not worth its import here
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
