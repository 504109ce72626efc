"""Which system calls a process may make (man 2 seccomp): those of a list, and no others.

    number ─► tree of comparisons ─► allow | refuse with an errno | a rule: look at the arguments

Calls that are allowed whatever their arguments cost nothing: the kernel (since 5.11) runs the
filter once for each number, and keeps the answer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from functools import cache
from typing import NamedTuple

from sandboxq.errors import MechanismMissing
from sandboxq.sandbox.mechanisms.call_rules import (
    IGNORED,
    WHOLE,
    Rule,
    Test,
    rule_for,
)
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
_Answer = int | Rule


class _Run(NamedTuple):
    """Numbers that follow each other and are answered alike, from the first one on."""

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
    """Return the filter for a process that is not born yet: a fork server makes it once."""
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
