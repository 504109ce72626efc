"""Which system calls a process may make (man 2 seccomp): those of a list, and no others.

    number ─► tree of comparisons ─► allow | refuse with an errno | a rule: look at the arguments

Calls that are allowed whatever their arguments cost nothing: the kernel (since 5.11) runs the
filter once for each number, and keeps the answer.

Some calls are allowed with some arguments and not with others. A filter sees numbers and no
memory: what an address points to cannot be looked at. Of an argument it looks at the lower 32
bits; for all calls here the kernel does too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import socket
import struct
from functools import cache
from typing import NamedTuple

from sandboxq.errors import MechanismMissing
from sandboxq.sandbox.mechanisms.syscalls import (
    ALLOWED,
    ARCHITECTURES,
    SECCOMP,
    Call,
    calls_of,
    is_known,
)

# Classic BPF (<linux/bpf_common.h>): load a word of struct seccomp_data, compare, return.
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP, _JUMP_EQUAL, _JUMP_FROM = 0x05, 0x15, 0x35
_FARTHEST = 255  # of a jump with a condition
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

_SET_MODE_FILTER = 1

# Stands for the child until it is born; larger than any process id, and than any other operand.
_ANY_PROCESS = 0x7FFF_FFF1

_libc = ctypes.CDLL(None, use_errno=True)
Instruction = tuple[int, int, int, int]

# The call succeeds, and nothing was done.
IGNORED = -1
WHOLE = 0xFFFF_FFFF
# clone(2). A sibling (PARENT) would be the zygote's child, and not this process's.
_CLONE_THREAD = 0x0001_0000
_CLONE_NAMESPACES = 0x7E02_0000
_CLONE_PARENT, _CLONE_PTRACE = 0x8000, 0x2000
_CLONE_ELSEWHERE = _CLONE_NAMESPACES | _CLONE_PARENT | _CLONE_PTRACE
_MAP_HUGETLB = 0x4_0000  # pages that are counted apart from all others
_MERGEABLE = 12  # MADV_MERGEABLE: when pages become one, neighbours can tell that they were alike
_SOCK_TYPE = 0xF
# setsockopt(2), level SOL_SOCKET: SO_SNDBUF, SO_RCVBUF, the same by force, SO_RESERVE_MEM.
_SOL_SOCKET = 1
_BUFFER_SIZES = (7, 8, 32, 33, 73)
# Clocks of the machine and of this process have small numbers; those made of a process id (which
# tell the CPU time of any process) have a high bit.
_CLOCKS_OF_OTHERS = 0xFFFF_FFE0
# fcntl(2): copies, flags of descriptors, record locks, and what only asks. Not F_SETOWN, F_SETSIG,
# F_NOTIFY (signals to others), F_SETLEASE (stops whoever opens the file), F_ADD_SEALS (of memory
# that the coordinator writes to), F_SETPIPE_SZ (pinned pages), F_SET_RW_HINT (kept on the file).
_FCNTL_COMMANDS = (
    *(0, 1, 2, 3, 5, 6, 7, 9, 11, 16),  # DUPFD … GETFL, GETLK … SETLKW, GETOWN, GETSIG, GETOWN_EX
    *(36, 37, 38),  # OFD_GETLK, OFD_SETLK, OFD_SETLKW
    *(1025, 1027, 1028, 1030, 1032, 1034, 1035, 1037),  # GETLEASE … GET_SEALS, GET_RW_HINT
)
_F_SETFL = 4
_SIGNAL_AND_ATIME = 0x4_2000  # O_ASYNC, O_NOATIME
# ioctl(2): what sockets, pipes, files and terminals are asked, and how a descriptor is used. Not
# what types into terminals, sets flags and attributes of files, or owners of sockets.
_REQUESTS = (
    *(0x5401, 0x802C_542A, 0x540F, 0x5413),  # TCGETS, TCGETS2, TIOCGPGRP, TIOCGWINSZ
    *(0x541B, 0x5411, 0x5421),  # FIONREAD, TIOCOUTQ, FIONBIO
    *(0x5450, 0x5451, 0x5460, 2),  # FIONCLEX, FIOCLEX, FIOQSIZE, FIGETBSZ
    *(0x4004_9409, 0x4020_940D),  # FICLONE, FICLONERANGE: a copy, between open files
)
# netdevice(7): SIOCATMARK, SIOCGIF: NAME, CONF, FLAGS, ADDR, BRDADDR, NETMASK, MTU, HWADDR, INDEX
_NETWORK_REQUESTS = (
    *(0x8905, 0x8910, 0x8912, 0x8913, 0x8915, 0x8919, 0x891B, 0x8921, 0x8927, 0x8933),
)
# prctl(2). Not the parent-death signal, the subreaper, dumpability (the watches outside read
# /proc), capabilities, filters, core scheduling.
_OPTIONS = (
    *(2, 3, 15, 16, 21, 23, 25),  # GET_PDEATHSIG, GET_DUMPABLE, SET_NAME … GET_SECCOMP, …, GET_TSC
    *(27, 29, 30, 37, 38, 39, 40, 41, 42),  # …, timer slack, GET_CHILD_SUBREAPER, NO_NEW_PRIVS, THP
    *(50, 51, 52, 53, 54, 55, 56, 63, 64),  # vectors and pointers of aarch64, speculation
    *(65, 66, 78, 0x5356_4D41),  # MDWE, FUTEX_HASH, SET_VMA (names of memory)
)
_SET_PDEATHSIG = 1
_ASK_PERSONALITY = (0, WHOLE)
# Their first argument is a process: this one, or 0 for the same.
_SIGNALS = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
_OF_A_PROCESS = (
    "prlimit64",
    "sched_setaffinity",
    "sched_setscheduler",
    "sched_setparam",
    "sched_setattr",
)


class _Run(NamedTuple):
    """A run of numbers that are answered alike, by its first one."""

    first: int
    answer: _Answer


def is_supported() -> bool:
    """Tell whether the system calls of this machine are known here."""
    return platform.system() == "Linux" and is_known(os.uname().machine)


def restrict_calls(options: dict[str, bool]) -> None:
    """Allow the calls of the list alone from now on; ``options``: ``network``, ``subprocess``.

    Needs no_new_privs. Raises: MechanismMissing.
    """
    raw = prepared(**options).replace(_word(_ANY_PROCESS), _word(os.getpid()))
    code = ctypes.create_string_buffer(raw, len(raw))
    text = struct.pack("HxxxxxxP", len(raw) // 8, ctypes.addressof(code))
    number = SECCOMP[os.uname().machine]
    arguments = ctypes.c_uint(_SET_MODE_FILTER), ctypes.c_uint(0), text
    if _libc.syscall(ctypes.c_long(number), *arguments) != 0:
        message = f"the kernel refused seccomp: {os.strerror(ctypes.get_errno())}"
        raise MechanismMissing(message)


@cache
def prepared(*, network: bool, subprocess: bool) -> bytes:
    """Return the filter for a process that is not born yet: a zygote makes it once."""
    machine = os.uname().machine
    steps = program(_ANY_PROCESS, machine, network=network, subprocess=subprocess)
    return b"".join(struct.pack("<HBBI", *each) for each in steps)


def _word(number: int) -> bytes:
    return struct.pack("<I", number)


def program(pid: int, machine: str, *, network: bool, subprocess: bool) -> list[Instruction]:
    """Return the filter for the process ``pid``: code, jumps if true and false, operand."""
    answers = {
        call.number: _answer(call, pid, network=network, subprocess=subprocess)
        for call in calls_of(machine).values()
    }
    return [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER_AT),
        *_tree(_runs(answers)),
    ]


def _answer(call: Call, pid: int, *, network: bool, subprocess: bool) -> _Answer:
    """Return what is answered to a call: an errno, ALLOWED, or a rule."""
    treatment = call.treatment
    granted = {"network": network, "subprocess": subprocess}
    if treatment.grant and not granted[treatment.grant]:
        return treatment.answer
    if treatment.is_examined:
        return rule_for(call.name, pid, network=network, subprocess=subprocess)
    return ALLOWED if treatment.grant else treatment.answer


def _runs(answers: dict[int, _Answer]) -> list[_Run]:
    """Return all numbers there can be, in runs; also x32, whose numbers begin at 1 << 30."""
    runs = [_Run(0, answers.get(0, errno.ENOSYS))]
    for number in range(1, max(answers) + 2):
        answer = answers.get(number, errno.ENOSYS)
        if answer != runs[-1].answer:
            runs.append(_Run(number, answer))
    return runs


def _tree(runs: list[_Run]) -> list[Instruction]:
    """Return code that finds the answer for a number in a logarithm of the runs."""
    if len(runs) == 1:
        answer = runs[0].answer
        return _examination(answer) if isinstance(answer, Rule) else [_returned(answer)]
    middle = len(runs) // 2
    lower, upper = _tree(runs[:middle]), _tree(runs[middle:])
    first = runs[middle].first
    if len(lower) <= _FARTHEST:
        return [(_JUMP_FROM, len(lower), 0, first), *lower, *upper]
    return [(_JUMP_FROM, 0, 1, first), (_JUMP, 0, 0, len(lower)), *lower, *upper]


def _examination(rule: Rule) -> list[Instruction]:
    steps = [step for tests in rule.alternatives for step in _alternative(tests, rule.then)]
    return [*steps, _returned(rule.otherwise)]


def _alternative(tests: tuple[Test, ...], then: int) -> list[Instruction]:
    """Return code that answers ``then`` if all tests hold, and else goes on behind itself."""
    steps = [_returned(then)]
    for test in reversed(tests):
        steps = [*_checked(test, len(steps)), *steps]
    return steps


def _checked(test: Test, behind: int) -> list[Instruction]:
    """Return code that goes on if a test holds, and else skips ``behind`` instructions more."""
    load = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * test.argument)]
    if test.mask != WHOLE:
        load.append((_AND, 0, 0, test.mask))
    last = len(test.values) - 1
    jumps = [
        (_JUMP_EQUAL, last - at, behind if at == last else 0, value)
        for at, value in enumerate(test.values)
    ]
    return [*load, *jumps]


def _returned(answer: int) -> Instruction:
    if answer == ALLOWED:
        return (_RETURN, 0, 0, _ALLOW)
    return (_RETURN, 0, 0, _ERRNO | (0 if answer == IGNORED else answer))


class Test(NamedTuple):
    """Whether an argument, with a mask laid over it, has one of these values."""

    argument: int
    values: tuple[int, ...]
    mask: int = WHOLE


class Rule(NamedTuple):
    """What is answered when all tests of one of the alternatives hold, and what otherwise."""

    alternatives: tuple[tuple[Test, ...], ...]
    then: int
    otherwise: int


_Answer = int | Rule


def rule_for(name: str, pid: int, *, network: bool, subprocess: bool) -> Rule:
    """Return the rule for a call in a process ``pid`` with these grants."""
    if name in _OF_A_PROCESS:
        return _allow((Test(0, (0, pid)),))
    if name in _SIGNALS:
        # With processes of its own, whom it signals is left to Landlock, which knows them.
        return _ANYTHING if subprocess else _allow((Test(0, (0, pid)),))
    if name == "clone":
        return _FORKS if subprocess else _THREADS
    if name == "ioctl" and network:
        return _allow((Test(1, _REQUESTS + _NETWORK_REQUESTS),))
    if name == "setsockopt" and network:
        return _ANYTHING
    return _RULES[name]


def _allow(*alternatives: tuple[Test, ...], otherwise: int = errno.EPERM) -> Rule:
    return Rule(alternatives, ALLOWED, otherwise)


def _refuse(*tests: Test, code: int) -> Rule:
    return Rule((tests,), code, ALLOWED)


_ANYTHING = Rule(((),), ALLOWED, ALLOWED)
_THREADS = _allow(
    (Test(0, (_CLONE_THREAD,), _CLONE_THREAD), Test(0, (0,), _CLONE_ELSEWHERE)),
    otherwise=errno.EAGAIN,
)
_FORKS = _allow((Test(0, (0,), _CLONE_ELSEWHERE),))
_OWN_CLOCKS = _allow((Test(0, (0,), _CLOCKS_OF_OTHERS),), otherwise=errno.EINVAL)
_RULES = {
    "fcntl": _allow(
        (Test(1, _FCNTL_COMMANDS),),
        (Test(1, (_F_SETFL,)), Test(2, (0,), _SIGNAL_AND_ATIME)),
    ),
    "ioctl": _allow((Test(1, _REQUESTS),)),
    "prctl": _allow(
        (Test(0, _OPTIONS),),
        (Test(0, (_SET_PDEATHSIG,)), Test(1, (signal.SIGKILL,))),
    ),
    "personality": _allow((Test(0, _ASK_PERSONALITY),)),
    "mmap": _refuse(Test(3, (_MAP_HUGETLB,), _MAP_HUGETLB), code=errno.ENOMEM),
    "madvise": _refuse(Test(2, (_MERGEABLE,)), code=errno.EINVAL),
    "clock_gettime": _OWN_CLOCKS,
    "clock_getres": _OWN_CLOCKS,
    "clock_nanosleep": _OWN_CLOCKS,
    "timer_create": _OWN_CLOCKS,
    # Taken and not followed, as the kernel does beyond its own bounds.
    "setsockopt": _refuse(Test(1, (_SOL_SOCKET,)), Test(2, _BUFFER_SIZES), code=IGNORED),
    # A pair of datagram sockets, or of raw ones, reaches any other by its path.
    "socketpair": _allow(
        (
            Test(0, (socket.AF_UNIX,)),
            Test(1, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET), _SOCK_TYPE),
        ),
        otherwise=errno.EACCES,
    ),
    "socket": _allow(
        (
            Test(0, (socket.AF_INET, socket.AF_INET6)),
            Test(1, (socket.SOCK_STREAM, socket.SOCK_DGRAM), _SOCK_TYPE),
            Test(2, (0, socket.IPPROTO_TCP, socket.IPPROTO_UDP)),
        ),
        otherwise=errno.EACCES,
    ),
}
