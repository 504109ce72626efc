"""What is done to files of others without writing to them: leases, locks, flags, events."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.sandbox.mechanisms.syscalls import calls_of
from sandboxq.sandbox.policy import Policy
from tests.escape.room import attempt

if TYPE_CHECKING:
    from pathlib import Path

_CALLS = {name: call.number for name, call in calls_of(os.uname().machine).items()}
_ATTACKS = """
import ctypes, fcntl, resource, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result < 0: raise OSError(ctypes.get_errno(), "refused")
    return result
def lease(data):
    fd = os.open(data["file"], os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)

def notify(data):
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    fcntl.fcntl(os.open(data["folder"], os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_CREATE)

def lock(data):
    fcntl.flock(os.open(data["file"], os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)

def flags(data):
    fd = os.open(data["file"], os.O_RDONLY)
    flags = bytearray(8)
    fcntl.ioctl(fd, 0x80086601, flags)  # FS_IOC_GETFLAGS
    fcntl.ioctl(fd, 0x40086602, bytes(flags))  # FS_IOC_SETFLAGS

def attribute(data):
    return os.getxattr(data["file"], "user.note").decode()

def set_attribute(data):
    os.setxattr(data["file"], "user.more", b"1")

def events(data):
    fd = call(data["calls"]["inotify_init1"], 0)
    call(data["calls"]["inotify_add_watch"], fd, data["folder"].encode(), 0xFFF)

def handle(data):
    handle, mount = ctypes.create_string_buffer(struct.pack("<Ii", 128, 0), 160), ctypes.c_int()
    file = data["file"].encode()
    call(data["calls"]["name_to_handle_at"], -100, file, handle, ctypes.byref(mount), 0)

def seals(data):
    fd = next(fd for fd in range(3, 60) if os.path.islink(f"/proc/self/fd/{fd}")
              and "sandboxq-arena" in os.readlink(f"/proc/self/fd/{fd}"))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)

def pipe_size(data):
    return fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)

def memfd(data):
    os.close(os.memfd_create("hidden"))

def pinned(data):
    near, far = os.pipe()
    os.write(far, b"x")
    third, fourth = os.pipe()
    return call(data["calls"]["tee"], near, fourth, 1, 0)

def clock(data):
    return time.clock_gettime((~data["pid"] << 3) | 2) >= 0

def death(data):
    if libc.prctl(1, ctypes.c_ulong(0)): raise OSError(ctypes.get_errno(), "refused")

def hide(data):
    if libc.prctl(4, ctypes.c_ulong(0)): raise OSError(ctypes.get_errno(), "refused")

def sync(data):
    call(data["calls"]["syncfs"], os.open(data["file"], os.O_RDONLY))

def attack(data):
    results = {}
    for name in data["attacks"]:
        try: results[name] = ["worked", globals()[name](data)]
        except OSError as error: results[name] = ["refused", errno.errorcode[error.errno]]
    return results
"""
# Refused by what is attacked, under any policy: memory that is shared takes no more seals.
_NEVER = {"seals": ["refused", "EPERM"]}
_NAMES = [name for name in re.findall(r"def (\w+)\(data\)", _ATTACKS) if name != "attack"]


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """Return what is outside: a file of the worker's user in a folder of its own."""
    folder = tmp_path / "outside"
    folder.mkdir()
    file = folder / "file"
    file.write_text("content")
    with suppress(OSError):
        os.setxattr(file, "user.note", b"beside")
    places = {"file": str(file), "folder": str(folder)}
    return {**places, "calls": _CALLS, "pid": os.getpid(), "attacks": _NAMES}


@pytest.mark.parametrize("has_grants", [False, True])
def test_strict_refuses(tmp_path: Path, data: dict[str, Any], *, has_grants: bool) -> None:
    """Each that is possible works under `limits`; `strict` refuses all with whatever it grants."""
    reached = attempt(tmp_path, "limits", _ATTACKS, data)[1]
    refused = {name: result for name, result in reached.items() if result[0] == "refused"}
    assert {name: refused.pop(name, None) for name in _NEVER} == _NEVER
    unknown = {"flags", "attribute", "set_attribute"}  # to some disks
    assert refused.keys() <= unknown, reached
    read = [data["folder"]]
    policy = Policy("strict", read=read, network=has_grants, subprocess=has_grants)
    refused = attempt(tmp_path, policy, _ATTACKS, data)[1]
    codes = ("EPERM", "ENOSYS", "ENOTSUP", "EINVAL")
    assert not {name: each for name, each in refused.items() if each[1] not in codes}
    assert len(refused) >= 16


@pytest.mark.parametrize("kind", [int(socket.SOCK_DGRAM), int(socket.SOCK_RAW)])
def test_datagrams_to_sockets_of_others(tmp_path: Path, kind: int) -> None:
    """A raw pair of Unix sockets is a pair of datagram sockets by another name."""
    attack = """
    def attack(data):
        near, far = socket.socketpair(socket.AF_UNIX, data[0])
        return near.sendto(b"x", data[1])
    """
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        assert attempt(tmp_path, "limits", attack, [kind, path]) == ["worked", 1]
        for policy in (Policy("strict"), Policy("strict", network=True)):
            assert attempt(tmp_path, policy, attack, [kind, path]) == ["refused", "EACCES"]


def test_buffers_of_sockets_stay_as_they_are(tmp_path: Path) -> None:
    """The kernel's memory is nobody's: more of it is not to be had."""
    attack = """
    def attack(data):
        near, far = socket.socketpair()
        before = near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * before)
        return near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > before
    """
    data: Any = None
    assert attempt(tmp_path, "limits", attack, data) == ["worked", True]
    assert attempt(tmp_path, "strict", attack, data) == ["worked", False]
