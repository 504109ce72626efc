"""Orders to a fork server: JSON in one packet, or in memory beside it when there is more to say.

A policy may grant thousands of paths, and a packet of a socket holds 64 KB.
"""

from __future__ import annotations

import array
import json
import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKET = 64 * 1024
_BESIDE = b"beside"


class Parcel(NamedTuple):
    """An order that is to be sent: its packet, its descriptors, and those of them that are ours."""

    raw: bytes
    fds: list[int]
    own: list[int]

    def send(self, control: socket.socket) -> None:
        """Send it whole, or raise OSError."""
        fds = array.array("i", self.fds)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if self.fds else []
        control.sendmsg([self.raw], rights)

    def kept(self) -> Parcel:
        """Return it with copies of descriptors, whose numbers may be others' when it is sent."""
        copies = [os.dup(fd) for fd in self.fds if fd not in self.own]
        return Parcel(self.raw, [*copies, *self.own], [*copies, *self.own])

    def close(self) -> None:
        """Give back what is its own."""
        for fd in self.own:
            os.close(fd)


def parcel_of(order: dict[str, Any], fds: Sequence[int]) -> Parcel:
    """Return what is to be sent for an order, with these descriptors."""
    raw, beside = encode_order(order)
    return Parcel(raw, [*fds, *beside], beside)


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
