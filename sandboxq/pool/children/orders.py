"""Orders to a fork server: JSON in one packet, or in memory beside it when there is more to say.

A policy may grant thousands of paths, and a packet of a socket holds 64 KB.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKET = 64 * 1024
_BESIDE = b"beside"


def encode_order(order: dict[str, Any]) -> tuple[bytes, list[int]]:
    """Return what to send, and descriptors to send after all others, and to close then."""
    text = json.dumps(order).encode()
    if len(text) <= PACKET:
        return text, []
    memory = os.memfd_create("sandboxq-order", os.MFD_CLOEXEC)
    with open(memory, "wb", closefd=False) as file:
        file.write(text)
    return _BESIDE, [memory]


def decode_order(raw: bytes, fds: Sequence[int]) -> tuple[dict[str, Any], list[int]]:
    """Return an order and the descriptors that are not part of it; who else has them reads too."""
    if raw != _BESIDE:
        return json.loads(raw), list(fds)
    size = os.fstat(fds[-1]).st_size
    return json.loads(os.pread(fds[-1], size, 0)), list(fds[:-1])
