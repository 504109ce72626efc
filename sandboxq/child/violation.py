"""What a policy has to do with an error of a job, said to whoever reads it."""

from __future__ import annotations

import errno
import resource
from typing import NamedTuple

_MB = 1 << 20


class Violation(NamedTuple):
    """A sentence for the reader; ``is_certain`` when nothing but the policy can be the cause."""

    text: str
    is_certain: bool = False


def violation_from(error: BaseException, policy: str) -> Violation | None:
    """Return what the policy has to do with an error; None when it has nothing."""
    if not isinstance(error, OSError) or policy == "none":
        return None
    if error.errno == errno.EFBIG:
        limit = _limit(resource.RLIMIT_FSIZE)
        text = f"policy {policy!r} grants files of {limit // _MB} MB (file_size={limit})"
        return Violation(text, is_certain=True)
    if error.errno == errno.EMFILE:
        limit = _limit(resource.RLIMIT_NOFILE)
        text = f"policy {policy!r} grants {limit} open files, and all are open (files={limit})"
        return Violation(text, is_certain=True)
    return _forbidden(error) if policy == "strict" else None


def _forbidden(error: OSError) -> Violation | None:
    """Say which grant may be missing; file modes refuse with the same numbers."""
    if error.errno == errno.EAGAIN:
        return Violation("policy 'strict' starts no processes unless it has subprocess=True")
    if error.errno == errno.ENOSYS:
        return Violation("policy 'strict' leaves out what can be seen or felt outside of the child")
    if not isinstance(error, PermissionError):
        return None
    if error.filename is not None:
        return Violation("policy 'strict' opens only what read=[…] and write=[…] grant")
    return Violation("policy 'strict' forbids network and processes unless it grants them")


def _limit(kind: int) -> int:
    return resource.getrlimit(kind)[0]
