"""What any Python program must read: interpreter, libraries, the code on its path."""

from __future__ import annotations

import os
import sys
from functools import cache

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
# Another place in every process: a fork server cannot open it for its children.
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
