"""Every system call is classified, and the filter answers as the table says."""

from __future__ import annotations

import errno
import re
from functools import cache
from pathlib import Path

import pytest

from sandboxq.sandbox.mechanisms import seccomp
from sandboxq.sandbox.mechanisms.seccomp import rule_for
from sandboxq.sandbox.mechanisms.syscalls import (
    ALLOWED,
    ARCHITECTURES,
    SECCOMP,
    TABLE,
    calls_of,
)

# aarch64 uses the kernel's generic table, which the headers of any machine have.
_HEADERS = {
    "x86_64": [
        Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        Path("/usr/include/asm/unistd_64.h"),
    ],
    "aarch64": [
        Path("/usr/include/aarch64-linux-gnu/asm/unistd_64.h"),
        Path("/usr/include/asm-generic/unistd.h"),
    ],
}
_DEFINITION = re.compile(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", re.MULTILINE)
# No calls: marks in the header, and what only machines of 32 bits have.
_NO_CALL = re.compile(r"syscalls|arch_specific_syscall|sync_file_range2|.*time(r|rfd)?(_\w+)?64")
_MACHINES = list(ARCHITECTURES)
_US = 4321
_GRANTS = [
    {"network": network, "subprocess": subprocess}
    for network in (False, True)
    for subprocess in (False, True)
]
_NOT_THERE = -1


def _real_numbers(machine: str) -> dict[str, int]:
    header = next((path for path in _HEADERS[machine] if path.exists()), None)
    if header is None:
        pytest.skip("needs the kernel's headers (linux-libc-dev)")
    found = _DEFINITION.findall(header.read_text())
    return {name: int(number) for name, number in found if not _NO_CALL.fullmatch(name)}


@cache
def _program(machine: str, *, network: bool, subprocess: bool) -> list[seccomp.Instruction]:
    return seccomp.program(_US, machine, network=network, subprocess=subprocess)


def _answer(machine: str, number: int, *arguments: int, arch: int = 0, **grants: bool) -> int:
    """Return what the filter of a machine answers: ALLOWED or an errno."""
    steps = _program(machine, **grants)
    words = {0: number, 4: arch or ARCHITECTURES[machine]}
    words |= {16 + 8 * index: argument for index, argument in enumerate(arguments)}
    at = value = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        match code:
            case 0x20:
                value = words.get(operand, 0) & 0xFFFF_FFFF
            case 0x54:
                value &= operand
            case 0x05:
                at += operand
            case 0x15:
                at += if_true if value == operand else if_false
            case 0x35:
                at += if_true if value >= operand else if_false
            case 0x06 if operand == 0x7FFF_0000:
                return ALLOWED
            case 0x06 if operand >> 16 == 5:
                return operand & 0xFFFF or _NOT_THERE
            case _:
                assert (code, operand) == (0x06, 0x8000_0000), steps[at - 1]
                return _NOT_THERE


@pytest.mark.parametrize("machine", _MACHINES)
def test_numbers_are_those_of_the_kernel_s_headers(machine: str) -> None:
    """A wrong number would forbid the wrong thing; what is newer than the header is passed over."""
    real = _real_numbers(machine)
    newest = max(real.values())
    ours = {call.name: call.number for call in calls_of(machine).values() if call.number <= newest}
    known_later = {"uretprobe", "uprobe"}
    assert {name: number for name, number in ours.items() if name not in known_later} == real


@pytest.mark.parametrize("machine", _MACHINES)
def test_a_call_that_is_new_in_the_headers_must_be_classified(machine: str) -> None:
    """Somebody is to decide what it does; until then it is refused."""
    unknown = set(_real_numbers(machine)) - set(calls_of(machine))
    assert not unknown, (
        f"put them in a group of sandbox/mechanisms/syscalls.py, with the reason: {unknown}"
    )


def test_each_call_is_in_the_table_once() -> None:
    """A second entry would overrule the first without a word."""
    names = [entry.split()[0] for group in TABLE for entry in group.numbers.split(",")]
    assert len(names) == len(set(names))
    assert all(group.why for group in TABLE)


@pytest.mark.parametrize("machine", _MACHINES)
def test_the_filter_answers_as_the_table_says(machine: str) -> None:
    """For each number there is, under each set of grants, with arguments of zero."""
    by_number = {call.number: call for call in calls_of(machine).values()}
    for grants in _GRANTS:
        for number in [*range(max(by_number) + 3), 1 << 30, (1 << 30) + 1, 0xFFFF_FFFF]:
            call = by_number.get(number)
            answer = _answer(machine, number, **grants)
            if call is None:
                assert answer == errno.ENOSYS, number
                continue
            group = call.treatment
            if group.grant and not grants[group.grant]:
                assert answer == group.answer != ALLOWED, call.name
            elif group.is_examined:
                rule = rule_for(call.name, _US, **grants)
                assert answer in (rule.then, rule.otherwise), call.name
            else:
                assert answer == (ALLOWED if group.grant else group.answer), call.name


def test_the_one_number_that_children_use() -> None:
    """They do not read the table."""
    assert {machine: calls_of(machine)["seccomp"].number for machine in _MACHINES} == SECCOMP


@pytest.mark.parametrize("machine", _MACHINES)
def test_another_architecture_is_killed(machine: str) -> None:
    """Its numbers mean something else: int 0x80 on x86_64."""
    assert _answer(machine, 1, arch=0x40000003, network=False, subprocess=False) == _NOT_THERE


_CLONE_THREAD = 0x3D0F00
_SIGCHLD = 17
_EXAMINED = [
    # call, arguments, without grants, with network, with subprocess
    ("fcntl", (3, 3), 0, 0, 0),  # F_GETFL
    ("fcntl", (3, 4, 0o4000), 0, 0, 0),  # F_SETFL, O_NONBLOCK
    ("fcntl", (3, 4, 0x2000), 1, 1, 1),  # F_SETFL, O_ASYNC
    ("fcntl", (3, 6), 0, 0, 0),  # F_SETLK: sqlite
    ("fcntl", (3, 1030), 0, 0, 0),  # F_DUPFD_CLOEXEC
    ("fcntl", (3, 1024, 1), 1, 1, 1),  # F_SETLEASE
    ("fcntl", (3, 1026), 1, 1, 1),  # F_NOTIFY
    ("fcntl", (3, 1031), 1, 1, 1),  # F_SETPIPE_SZ
    ("fcntl", (3, 1033), 1, 1, 1),  # F_ADD_SEALS
    ("fcntl", (3, 8), 1, 1, 1),  # F_SETOWN
    ("fcntl", (3, 10), 1, 1, 1),  # F_SETSIG
    ("fcntl", (3, 15), 1, 1, 1),  # F_SETOWN_EX
    ("fcntl", (3, 1036), 1, 1, 1),  # F_SET_RW_HINT
    ("ioctl", (3, 0x541B), 0, 0, 0),  # FIONREAD
    ("ioctl", (3, 0x5413), 0, 0, 0),  # TIOCGWINSZ
    ("ioctl", (3, 0x5421), 0, 0, 0),  # FIONBIO
    ("ioctl", (3, 0x5412), 1, 1, 1),  # TIOCSTI
    ("ioctl", (3, 0x40086602), 1, 1, 1),  # FS_IOC_SETFLAGS
    ("ioctl", (3, 0x8901), 1, 1, 1),  # FIOSETOWN
    ("ioctl", (3, 0x8933), 1, 0, 1),  # SIOCGIFINDEX
    ("socketpair", (1, 1), 0, 0, 0),
    ("socketpair", (1, 5 | 0o2000000), 0, 0, 0),  # SOCK_SEQPACKET | SOCK_CLOEXEC
    ("socketpair", (1, 2), 1, 1, 1),  # SOCK_DGRAM
    ("socketpair", (1, 3), 1, 1, 1),  # SOCK_RAW: the same
    ("socketpair", (30, 5), 1, 1, 1),  # AF_TIPC
    ("socket", (2, 1, 6), 1, 0, 1),
    ("socket", (10, 2, 0), 1, 0, 1),
    ("socket", (2, 3, 1), 1, 1, 1),  # SOCK_RAW
    ("socket", (1, 1, 0), 1, 1, 1),  # AF_UNIX
    ("socket", (16, 3, 0), 1, 1, 1),  # AF_NETLINK
    ("prctl", (15,), 0, 0, 0),  # PR_SET_NAME
    ("prctl", (1, 9), 0, 0, 0),  # PR_SET_PDEATHSIG, SIGKILL
    ("prctl", (1, 0), 1, 1, 1),  # the zygote's death would be survived
    ("prctl", (4, 0), 1, 1, 1),  # PR_SET_DUMPABLE: the watches see nothing
    ("prctl", (36, 0), 1, 1, 1),  # PR_SET_CHILD_SUBREAPER
    ("prlimit64", (0, 7), 0, 0, 0),
    ("prlimit64", (_US, 7), 0, 0, 0),
    ("prlimit64", (1, 7), 1, 1, 1),
    ("kill", (0, 9), 0, 0, 0),
    ("kill", (_US, 9), 0, 0, 0),
    ("kill", (1, 9), 1, 1, 0),  # with processes: Landlock's to refuse
    ("kill", (0xFFFF_FFFF, 9), 1, 1, 0),
    ("clone", (_CLONE_THREAD,), 0, 0, 0),
    ("clone", (_SIGCHLD,), 1, 1, 0),
    ("clone", (_SIGCHLD | 0x10000000,), 1, 1, 1),  # CLONE_NEWUSER
    ("clone", (_SIGCHLD | 0x8000,), 1, 1, 1),  # CLONE_PARENT: a child of the zygote
    ("mmap", (0, 4096, 3, 0x22), 0, 0, 0),
    ("mmap", (0, 4096, 3, 0x40022), 1, 1, 1),  # MAP_HUGETLB
    ("madvise", (0, 4096, 4), 0, 0, 0),
    ("madvise", (0, 4096, 12), 1, 1, 1),  # MADV_MERGEABLE
    ("clock_gettime", (2,), 0, 0, 0),
    ("clock_gettime", (0xFFFF_FF82,), 1, 1, 1),  # the CPU time of another process
    ("personality", (0xFFFF_FFFF,), 0, 0, 0),
    ("personality", (0x0040000,), 1, 1, 1),
    ("setsockopt", (3, 1, 9), 0, 0, 0),  # SO_KEEPALIVE
    ("setsockopt", (3, 1, 7), 1, 0, 1),  # SO_SNDBUF
]


@pytest.mark.parametrize("machine", _MACHINES)
def test_calls_that_are_looked_at(machine: str) -> None:
    """Each rule, with an argument of honest programs and with those that reach beyond the child."""
    columns = _GRANTS[0], _GRANTS[2], _GRANTS[1]
    seen = set()
    for name, arguments, *refused in _EXAMINED:
        call = calls_of(machine)[name]
        seen.add(name)
        for grants, is_refused in zip(columns, refused, strict=True):
            answer = _answer(machine, call.number, *arguments, **grants)
            assert bool(answer) == bool(is_refused), (name, arguments, grants)
    examined = {call.name for call in calls_of(machine).values() if call.treatment.is_examined}
    like_others = {"clock_getres", "clock_nanosleep", "timer_create"}
    like_others |= {name for name in examined if name.startswith(("sched_", "rt_", "tgkill"))}
    assert seen == examined - like_others
