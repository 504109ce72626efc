"""Root's privileges, given up one and all (man 7 capabilities)."""

from __future__ import annotations

import ctypes
import os
import struct

from sandboxq.errors import MechanismMissing

_CAPBSET_DROP = 24
_CAP_AMBIENT = 47
_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_MOST = 64

_libc = ctypes.CDLL(None, use_errno=True)


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
