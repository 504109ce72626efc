"""Which system calls a process may make (man 2 seccomp): a list of those that it may not."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from functools import cache

from sandboxq.errors import MechanismMissing
from sandboxq.sandbox.syscalls import ARCHITECTURES, NEVER, NEWEST, NUMBERS, OF_ONESELF

# Classic BPF (<linux/bpf_common.h>): load a word of struct seccomp_data, compare, return.
_LOAD, _AND, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

_SET_MODE_FILTER = 1
_CLONE_THREAD = 0x0001_0000
_CLONE_NAMESPACES = 0x7E02_0080
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_TYPE_MASK, _SOCK_DGRAM = 0xF, 2
# fcntl(2): F_SETOWN, F_SETSIG, F_SETOWN_EX have the kernel signal any process.
_SIGNAL_COMMANDS = (8, 10, 15)
# ioctl(2): TIOCSTI, TIOCLINUX type into a terminal; FIOSETOWN, SIOCSPGRP are as above.
_TERMINAL_REQUESTS = (0x5412, 0x541C, 0x8901, 0x8902)

# Stands for the child until it is born; larger than any process id, and than any other operand.
_ANY_PROCESS = 0x7FFF_FFF1

_libc = ctypes.CDLL(None, use_errno=True)
Instruction = tuple[int, int, int, int]


def is_supported() -> bool:
    """Tell whether the system calls of this machine are known here."""
    return platform.system() == "Linux" and os.uname().machine in NUMBERS


def restrict_calls(options: dict[str, bool]) -> None:
    """Refuse system calls from now on; ``options`` are ``network`` and ``subprocess``.

    Needs no_new_privs. Raises: MechanismMissing.
    """
    raw = prepared(**options).replace(_word(_ANY_PROCESS), _word(os.getpid()))
    code = ctypes.create_string_buffer(raw, len(raw))
    text = struct.pack("HxxxxxxP", len(raw) // 8, ctypes.addressof(code))
    number = NUMBERS[os.uname().machine]["seccomp"]
    arguments = ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(0), text
    if _libc.syscall(ctypes.c_long(number), *arguments) != 0:
        message = f"the kernel refused seccomp: {os.strerror(ctypes.get_errno())}"
        raise MechanismMissing(message)


@cache
def prepared(*, network: bool, subprocess: bool) -> bytes:
    """Return the filter for a process that is not born yet: a fork server makes it once."""
    steps = program(_ANY_PROCESS, network=network, subprocess=subprocess)
    return b"".join(struct.pack("<HBBI", *each) for each in steps)


def _word(number: int) -> bytes:
    return struct.pack("<I", number)


def program(pid: int, *, network: bool, subprocess: bool) -> list[Instruction]:
    """Return the filter for the process ``pid``: code, jumps if true and false, operand."""
    machine = os.uname().machine
    numbers = NUMBERS[machine]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
        # Also x32, whose numbers begin at 1 << 30.
        (_JUMP_GREATER, 0, 1, NEWEST),
        _refusal(errno.ENOSYS),
    ]
    for name in NEVER:
        steps += _never(numbers, name, errno.EPERM)
    steps += _never(numbers, "clone3", errno.ENOSYS)  # its flags lie in memory; glibc takes clone
    steps += _if_argument(numbers, "fcntl", 1, _SIGNAL_COMMANDS, errno.EPERM)
    steps += _if_argument(numbers, "ioctl", 1, _TERMINAL_REQUESTS, errno.EPERM)
    steps += _sockets(numbers, is_network_granted=network)
    if subprocess:
        steps += _clone(numbers, _CLONE_NAMESPACES, is_wanted=False, code=errno.EPERM)
        # Signals to others are left to Landlock, which knows what was started here.
        names = [name for name in OF_ONESELF if name.startswith(("prlimit", "sched"))]
    else:
        for name in ("fork", "vfork"):
            steps += _never(numbers, name, errno.EAGAIN)
        for name in ("execve", "execveat"):
            steps += _never(numbers, name, errno.EPERM)
        steps += _clone(numbers, _CLONE_THREAD, is_wanted=True, code=errno.EAGAIN)
        names = list(OF_ONESELF)
    for name in names:
        steps += _unless_argument(numbers, name, 0, (0, pid), errno.EPERM)
    return [*steps, (_RETURN, 0, 0, _ALLOW)]


def _sockets(numbers: dict[str, int], *, is_network_granted: bool) -> list[Instruction]:
    """Allow no datagrams between Unix sockets: a pair of them reaches any other by its path."""
    load = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8), (_AND, 0, 0, _SOCK_TYPE_MASK)]
    refuse = [(_JUMP_EQUAL, 0, 1, _SOCK_DGRAM), _refusal(errno.EACCES)]
    steps = _guarded(numbers, "socketpair", [*load, *refuse])
    if is_network_granted:
        families = (_AF_INET, _AF_INET6)
        return steps + _unless_argument(numbers, "socket", 0, families, errno.EACCES)
    for name in ("socket", "connect", "bind", "listen", "accept", "accept4"):
        steps += _never(numbers, name, errno.EACCES)
    return steps


def _clone(numbers: dict[str, int], flags: int, *, is_wanted: bool, code: int) -> list[Instruction]:
    jumps = (1, 0) if is_wanted else (0, 1)
    test = (_JUMP_ANY_BIT, *jumps, flags)
    return _guarded(numbers, "clone", [(_LOAD, 0, 0, _ARGUMENTS_AT), test, _refusal(code)])


def _never(numbers: dict[str, int], name: str, code: int) -> list[Instruction]:
    if name not in numbers:
        return []
    return [(_JUMP_EQUAL, 0, 1, numbers[name]), _refusal(code)]


def _if_argument(
    numbers: dict[str, int], name: str, index: int, values: tuple[int, ...], code: int
) -> list[Instruction]:
    body: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index)]
    for value in values:
        body += [(_JUMP_EQUAL, 0, 1, value), _refusal(code)]
    return _guarded(numbers, name, body)


def _unless_argument(
    numbers: dict[str, int], name: str, index: int, values: tuple[int, ...], code: int
) -> list[Instruction]:
    body: list[Instruction] = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index)]
    body += [(_JUMP_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
    return _guarded(numbers, name, [*body, _refusal(code)])


def _guarded(numbers: dict[str, int], name: str, body: list[Instruction]) -> list[Instruction]:
    """Return ``body`` for one call alone; afterwards its number is loaded again."""
    body = [*body, (_LOAD, 0, 0, _NUMBER_AT)]
    return [(_JUMP_EQUAL, 0, len(body), numbers[name]), *body]


def _refusal(code: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | code)
