"""What a job does to the coordinator and to the child beside it, which runs another's job."""

from __future__ import annotations

import ctypes
import os
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.child.frames import CALL, DONE, REPLY
from sandboxq.model.outcome import Completed
from sandboxq.sandbox.mechanisms.syscalls import number_of
from sandboxq.sandbox.policy import Policy
from tests.conftest import run_async
from tests.pool.caller import open_pool, processor_file

if TYPE_CHECKING:
    from pathlib import Path

    from sandboxq.model.outcome import Outcome

_MACHINE = os.uname().machine
_CALLS = {name: number_of(name, _MACHINE) for name in ("pidfd_getfd", "pidfd_open")}
_HEAD = """
import ctypes, errno, os, signal, socket, stat, time
libc = ctypes.CDLL(None, use_errno=True)

def checked(result):
    if result < 0: raise OSError(ctypes.get_errno(), "refused")
    return result

def process(job):
    if job.data == "victim":
        time.sleep(0.5)
        return "honest"
    try:
        return ["worked", attack(*job.data)]
    except OSError as error:
        return ["refused", errno.errorcode[error.errno]]

def borrowed(pid, sources):
    pidfd = checked(libc.syscall(ctypes.c_long(%(pidfd_open)d), pid, 0))
    for number in sources:
        fd = libc.syscall(ctypes.c_long(%(pidfd_getfd)d), pidfd, number, 0)
        if fd >= 0 and stat.S_ISSOCK(os.fstat(fd).st_mode): yield fd
"""
_READ_MEMORY = """
def attack(pid, address):
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
    own = ctypes.create_string_buffer(8)
    near, far = Vector(ctypes.addressof(own), 8), Vector(address or id(None), 8)
    return checked(libc.process_vm_readv(pid, ctypes.byref(near), 1, ctypes.byref(far), 1, 0))
"""
_WRITE_MEMORY = """
def attack(pid, address):
    with open(f"/proc/{pid}/mem", "r+b", 0) as memory:
        memory.seek(address or id(None))
        return len(memory.read(8))
"""
_TRACE = """
def attack(pid, _):
    return checked(libc.ptrace(ctypes.c_long(0x4206), pid, None, None))  # PTRACE_SEIZE: no stop
"""
_TAKE = """
def attack(pid, _):
    return len(list(borrowed(pid, range(3, 40)))) > 0
"""
_KILL = """
def attack(pid, _):
    os.kill(pid, 0)
    return 0
"""
_FORGE = """
def attack(pid, seq, frame):
    for fd in borrowed(pid, range(3, 40)):
        try: os.write(fd, bytes.fromhex(frame))
        except OSError: pass
    return "sent"
"""
_STEAL = """
def attack(pid, _):
    for fd in borrowed(pid, range(3, 40)):
        try: return len(socket.socket(fileno=fd).recv(100, socket.MSG_DONTWAIT))
        except OSError: continue
    raise OSError(errno.ENOENT, "nothing to steal")
"""
# What may be left to a granted `subprocess` is Landlock's to refuse.
_STRICT = (Policy("strict"), Policy("strict", subprocess=True))


async def _attacked(path: Path, policy: str | Policy, *data: Any) -> tuple[Outcome, Outcome]:
    """Return the ends of attacker and victim, one child each; data "PID" and "SEQ" are its."""
    async with open_pool(path, size=2, policy=policy) as caller:
        victim = caller.submit("victim")
        child = next(c for c in caller.pool.supervisor.children if victim.seq in c.flying)
        frame = REPLY.pack(DONE, 0, 0, 0, victim.seq, 0, 0, 0) + b'"forged"'
        known = {"PID": child.pid, "SEQ": victim.seq, "FRAME": frame.hex()}
        attack = caller.submit([known.get(each, each) for each in data])
        outcomes = await caller.outcome(attack), await caller.outcome(victim)
        assert child.pid in caller.pool.pids  # the attacker's may be replaced, for what it holds
        return outcomes


def _value(outcome: Outcome) -> str:
    assert isinstance(outcome, Completed), outcome
    return outcome.value.decode()


def _attacker(folder: Path, attack: str) -> Path:
    code = folder / "code"
    code.mkdir()
    return processor_file(code, _HEAD % _CALLS + textwrap.dedent(attack))


@pytest.mark.parametrize("attack", [_READ_MEMORY, _WRITE_MEMORY, _TRACE, _TAKE, _KILL])
def test_a_sibling(tmp_path: Path, attack: str) -> None:
    """Its memory holds another's data: `limits` leaves it open, `strict` does not."""
    path = _attacker(tmp_path, attack)
    here = 0  # what lies where in one child lies there in all

    async def main() -> None:
        reached, victim = await _attacked(path, "limits", "PID", here)
        assert '"worked"' in _value(reached)
        assert _value(victim) == '"honest"'
        for policy in _STRICT:
            refused, victim = await _attacked(path, policy, "PID", here)
            assert _value(refused) in ('["refused","EPERM"]', '["refused","EACCES"]'), policy
            assert _value(victim) == '"honest"'

    run_async(main())


@pytest.mark.parametrize("attack", [_READ_MEMORY, _WRITE_MEMORY, _TAKE])
def test_the_coordinator(tmp_path: Path, attack: str) -> None:
    """It holds the password of Redis and all jobs; of root's jobs `limits` cannot keep it."""
    path = _attacker(tmp_path, attack)
    target = ctypes.create_string_buffer(b"password")

    async def main() -> None:
        where = os.getpid(), ctypes.addressof(target)
        if os.geteuid() == 0:
            reached, _ = await _attacked(path, "none", *where)
            assert '"worked"' in _value(reached)
        for policy in _STRICT:
            refused, _ = await _attacked(path, policy, *where)
            assert _value(refused) in ('["refused","EPERM"]', '["refused","EACCES"]'), policy

    run_async(main())


def test_forging_the_outcome_of_a_sibling(tmp_path: Path) -> None:
    """Who takes its socket answers in its name."""
    path = _attacker(tmp_path, _FORGE)

    async def main() -> None:
        _, victim = await _attacked(path, "limits", "PID", "SEQ", "FRAME")
        assert _value(victim) == '"forged"'
        refused, victim = await _attacked(path, "strict", "PID", "SEQ", "FRAME")
        assert _value(refused) == '["refused","EPERM"]'
        assert _value(victim) == '"honest"'

    run_async(main())


def test_stealing_the_call_of_a_sibling(tmp_path: Path) -> None:
    """What waits in its socket is another's data."""
    path = _attacker(tmp_path, _STEAL)

    async def main(policy: str) -> Outcome:
        async with open_pool(path, size=2, policy=policy) as caller:
            victim = caller.submit("victim")
            child = next(c for c in caller.pool.supervisor.children if victim.seq in c.flying)
            child.channel.send(CALL, 1 << 40, b"secret")  # it lies there, unread
            outcome = await caller.run([child.pid, 0])
            caller.pool.kill()
            return outcome

    assert '"worked"' in _value(run_async(main("limits")))
    assert _value(run_async(main("strict"))) == '["refused","EPERM"]'


def test_shared_memory_is_not_to_be_had(tmp_path: Path) -> None:
    """It would stay when the child is gone, and others could read it."""
    attack = """
    def attack(kind, number):
        if kind == "file": return open("/dev/shm/sandboxq-attack", "w").close()
        return checked(libc.syscall(ctypes.c_long(number), 0, 4096, 0o1600))
    """
    path = _attacker(tmp_path, attack)

    async def main() -> None:
        async with open_pool(path, policy="strict") as caller:
            number = number_of("shmget", _MACHINE)
            assert await caller.value(["file", 0]) == ["refused", "EACCES"]
            assert await caller.value(["system v", number]) == ["refused", "EPERM"]

    run_async(main())
