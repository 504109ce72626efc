"""Limits that the kernel keeps for one process (man 2 setrlimit)."""

from __future__ import annotations

import os
import resource

from sandboxq.errors import MechanismMissing

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MB = 1 << 20
_LINE = 256  # more than its seven numbers have


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
