"""Reaching other processes, and making too many."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from sandboxq.model.outcome import Failed
from sandboxq.sandbox.policy import Policy
from tests.escape.room import attempt, outcome_of

if TYPE_CHECKING:
    from pathlib import Path

_SIGNAL = """
def attack(pid):
    os.kill(pid, 0)
"""
_PIDFD = """
def attack(pid):
    os.pidfd_open(pid)
"""
_OWNER = """
def attack(pid):
    import fcntl
    near, far = socket.socketpair()
    fcntl.fcntl(near, 10, signal.SIGCONT)  # F_SETSIG
    fcntl.fcntl(near, fcntl.F_SETOWN, pid)
"""
_PRLIMIT = """
def attack(pid):
    import resource
    resource.prlimit(pid, resource.RLIMIT_CORE, tuple(resource.getrlimit(resource.RLIMIT_CORE)))
"""
_SYSCALL = """
def attack(arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(*map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), "syscall")
"""
_FORK_BOMB = """
def attack(_):
    pids = []
    for _ in range(30):
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
        pids.append(pid)
    return len(pids)
"""
_DAEMON = """
def attack(_):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(60)
        os._exit(0)
"""
_EXECUTE = """
def attack(_):
    return subprocess.run(["true"]).returncode
"""
_THREADS = """
def attack(_):
    threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""
_MEMORY = """
def attack(way):
    if way == "malloc":
        kept = [bytearray(16 << 20) for _ in range(64)]
    elif way == "numpy":
        import numpy
        kept = numpy.ones(128 << 20)
    else:
        area = mmap.mmap(-1, 512 << 20)
        for start in range(0, len(area), 4096):
            area[start] = 1
        time.sleep(5 if way == "shared" else 0)
"""


def test_signals_to_the_coordinator(tmp_path: Path) -> None:
    """By kill, by pidfd, by the owner of a socket, by limits: none reaches anybody."""
    us = os.getpid()
    for attack in (_SIGNAL, _PIDFD, _OWNER):
        assert attempt(tmp_path, "limits", attack, us)[0] == "worked"
        assert attempt(tmp_path, "strict", attack, us) == ["refused", "EPERM"]
    assert attempt(tmp_path, "strict", _PRLIMIT, us) == ["refused", "EPERM"]
    assert resource.getrlimit(resource.RLIMIT_CORE)
    assert attempt(tmp_path, Policy("strict", subprocess=True), _SIGNAL, us) == ["refused", "EPERM"]


def test_calls_that_no_job_needs(tmp_path: Path) -> None:
    """ptrace, reading memory, namespaces, bpf, io_uring, keys: all refused."""
    from sandboxq.sandbox.mechanisms.syscalls import number_of

    machine = os.uname().machine
    for name in ("ptrace", "process_vm_readv", "unshare", "bpf", "io_uring_setup", "keyctl"):
        first = 0x10000000 if name == "unshare" else 16
        arguments = [number_of(name, machine), first, os.getpid(), 0, 0, 0]
        assert attempt(tmp_path, "strict", _SYSCALL, arguments) == ["refused", "EPERM"], name
    for number in (number_of("clone3", machine), 400, 999):  # and numbers that nobody has
        assert attempt(tmp_path, "strict", _SYSCALL, [number, 0, 0]) == ["refused", "ENOSYS"]


def test_fork_bomb(tmp_path: Path) -> None:
    """Under `strict` there is no first fork; otherwise all are gone with their child."""
    assert attempt(tmp_path, "limits", _FORK_BOMB) == ["worked", 30]
    assert attempt(tmp_path, "strict", _FORK_BOMB) == ["refused", "EAGAIN"]


def test_daemons_and_programs(tmp_path: Path) -> None:
    """Whoever leaves the session and ignores SIGTERM is found; `strict` starts nothing."""
    granted = Policy("strict", subprocess=True)
    for attack in (_DAEMON, _EXECUTE):
        for policy in ("limits", granted):
            assert attempt(tmp_path, policy, attack)[0] == "worked"
        assert attempt(tmp_path, "strict", attack) == ["refused", "EAGAIN"]


def test_threads_are_honest_work(tmp_path: Path) -> None:
    """What is refused is a process, not a thread."""
    assert attempt(tmp_path, "strict", _THREADS)[0] == "worked"


def test_memory_bombs(tmp_path: Path) -> None:
    """Private memory ends at the kernel's limit, shared memory at the watch outside."""
    for name in ("limits", "strict"):
        for way in ("malloc", "numpy", "shared"):
            outcome = outcome_of(tmp_path, Policy(name, memory=192 << 20), _MEMORY, way)
            assert isinstance(outcome, Failed), (name, way)
            assert outcome.cause == "JobMemoryExceeded", (name, way, outcome)
            assert "192 MB" in outcome.reason
    for way in ("malloc", "numpy", "shared, briefly"):
        assert attempt(tmp_path, "none", _MEMORY, way)[0] == "worked"
