"""What the kernel keeps for one process: attributes, limits, user and privileges.

See man 2 prctl, man 2 setrlimit and man 7 capabilities.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from contextlib import suppress

from sandboxq.errors import MechanismMissing

# From <linux/prctl.h>.
_SET_PDEATHSIG = 1
_SET_DUMPABLE = 4
_SET_CHILD_SUBREAPER = 36
_SET_NO_NEW_PRIVS = 38

_SCORE_OF_CHILDREN, _HIGHEST_SCORE = 500, 1000
_LINE = 256  # more than a line of these files of the kernel has

_libc = ctypes.CDLL(None, use_errno=True)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MB = 1 << 20
_CAPBSET_DROP = 24
_CAP_AMBIENT = 47
_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_MOST = 64


def die_with_parent() -> None:
    """Have the kernel send SIGKILL to this process when the thread that forked it ends.

    The parent may be gone already: compare ``os.getppid()`` afterwards.
    """
    _prctl(_SET_PDEATHSIG, signal.SIGKILL, "PR_SET_PDEATHSIG")


def outlive_parent() -> None:
    """Undo ``die_with_parent``."""
    _prctl(_SET_PDEATHSIG, 0, "PR_SET_PDEATHSIG")


def hide_memory() -> None:
    """Make environment and memory of this process unreadable to others of the same user."""
    _prctl(_SET_DUMPABLE, 0, "PR_SET_DUMPABLE")


def show_memory() -> None:
    """Undo ``hide_memory``: a child's memory holds nothing but its own job."""
    _prctl(_SET_DUMPABLE, 1, "PR_SET_DUMPABLE")


def be_ended_first(*, more: int = _SCORE_OF_CHILDREN) -> None:
    """Have the kernel, when it is out of memory, choose this process before its parent.

    A job can be tried again; the coordinator holds the locks of all. ``more`` is added to the score
    (man 5 proc_pid_oom_score_adj); 0 changes nothing.
    """
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    with suppress(OSError):
        score = min(_HIGHEST_SCORE, int(os.read(fd, _LINE)) + more)
        os.pwrite(fd, b"%d" % score, 0)
    os.close(fd)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_SET_CHILD_SUBREAPER, 1, "PR_SET_CHILD_SUBREAPER")


def refuse_new_privileges() -> None:
    """Give up set-uid programs and file capabilities, for this process and what it starts."""
    _prctl(_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")


def _prctl(option: int, value: int, name: str) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
        reason = os.strerror(ctypes.get_errno())
        message = f"the kernel refused prctl({name}): {reason}"
        raise MechanismMissing(message)


def no_core_dumps() -> None:
    """Leave no core file: it would hold the job's data, and writing it delays the death notice."""
    _lower(resource.RLIMIT_CORE, 0)


def limit_data(limit: int) -> None:
    """Grant ``limit`` bytes of private memory; an allocation above it is a MemoryError.

    RLIMIT_DATA and not RLIMIT_AS: numpy reserves address space that it never uses.
    """
    used = _data_now()
    if used >= limit:
        message = (
            f"the policy grants {limit // _MB} MB of memory, and the processor holds "
            f"{used // _MB} MB before its first job: grant more"
        )
        raise MechanismMissing(message)
    _lower(resource.RLIMIT_DATA, limit)


def limit_files(limit: int) -> None:
    """Grant ``limit`` open files."""
    _lower(resource.RLIMIT_NOFILE, limit)


def limit_file_size(limit: int) -> None:
    """Grant files of ``limit`` bytes each; writing more is EFBIG."""
    _lower(resource.RLIMIT_FSIZE, limit)


def _data_now() -> int:
    statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(statm, _LINE).split()[5]) * _PAGE
    finally:
        os.close(statm)


def _lower(kind: int, limit: int) -> None:
    """Set a limit, soft and hard, unless it is lower already."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    try:
        resource.setrlimit(kind, (limit, limit))
    except (OSError, ValueError) as error:
        message = f"the kernel refused a limit of {limit}: {error}"
        raise MechanismMissing(message) from error


def become(uid: int, gid: int, scratch_path: str) -> None:
    """Become this user, without other groups; the private directory goes along.

    Raises: MechanismMissing, also when this user cannot read Python's own modules and the sources.
    """
    parent = os.getppid()
    needed = [os.__file__, *filter(os.path.exists, sys.path)]
    try:
        os.chown(scratch_path, uid, gid)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        message = f"cannot become user {uid}: {error}"
        raise MechanismMissing(message) from error
    die_with_parent()  # a change of the user undoes it
    show_memory()
    if os.getppid() != parent:
        os._exit(0)
    _require_readable(needed, uid)


def _require_readable(paths: list[str], uid: int) -> None:
    """Refuse to go on where the first import of a job would fail."""
    closed = next((path for path in paths if not os.access(path, os.R_OK)), None)
    if closed is not None:
        message = (
            f"user {uid} cannot read {closed}, which Python imports from. What helps: an "
            "interpreter and sources outside of private homes (such as /usr/bin/python3 or "
            "/opt), or no user= in the policy: `strict` drops root's capabilities in any case"
        )
        raise MechanismMissing(message)


def drop_capabilities() -> None:
    """Drop all privileges of root for good, but keep the user id.

    Raises: MechanismMissing.
    """
    zero = ctypes.c_ulong(0)
    for capability in range(_MOST):
        # Refused beyond the last one, and without CAP_SETPCAP: then there is nothing to lose.
        if _libc.prctl(_CAPBSET_DROP, ctypes.c_ulong(capability), zero, zero, zero) != 0:
            break
    _libc.prctl(_CAP_AMBIENT, ctypes.c_ulong(_AMBIENT_CLEAR_ALL), zero, zero, zero)
    header = struct.pack("<Ii", _VERSION_3, 0)
    if _libc.capset(header, bytes(24)) != 0:
        message = f"the kernel refused to drop capabilities: {os.strerror(ctypes.get_errno())}"
        raise MechanismMissing(message)
