"""Orders to a zygote: JSON in one packet, or in shared memory when it does not fit.

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
# The C part of json.loads(): the rest of it would cost each child twenty pages of memory.
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # missing in its stubs


def encode_order(order: dict[str, Any]) -> tuple[bytes, list[int]]:
    """Return the packet, and descriptors to send after all others and to close then."""
    text = json.dumps(order).encode()
    if len(text) <= PACKET:
        return text, []
    memory = os.memfd_create("sandboxq-order", os.MFD_CLOEXEC)
    with open(memory, "wb", closefd=False) as file:
        file.write(text)
    return _BESIDE, [memory]


def decode_order(raw: bytes, fds: Sequence[int]) -> tuple[dict[str, Any], list[int]]:
    """Return an order and the descriptors that are not part of it; others may read it too."""
    if raw != _BESIDE:
        return _object_in(raw), list(fds)
    size = os.fstat(fds[-1]).st_size
    return _object_in(os.pread(fds[-1], size, 0)), list(fds[:-1])


def _object_in(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = _scan(raw.decode(), 0)[0]
    return found
