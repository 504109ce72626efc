"""Another user's identity, for good, and no privileges of root (man 7 capabilities)."""

from __future__ import annotations

import ctypes
import os
import struct
import sys

from sandboxq.errors import MechanismMissing
from sandboxq.sandbox.mechanisms import prctl

_CAPBSET_DROP = 24
_CAP_AMBIENT = 47
_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_MOST = 64
_libc = ctypes.CDLL(None, use_errno=True)


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
    prctl.die_with_parent()  # a change of the user undoes it
    prctl.show_memory()
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
    """Keep the user id and lose what makes root special; no program gives it back.

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
