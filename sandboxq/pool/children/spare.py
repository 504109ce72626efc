"""A process that the zygote has forked in advance, and that waits for its order.

    coordinator ══ order, descriptors ══► zygote ══ the same, passed on ══► spare: becomes the child
                                            └──fork──► the next spare

What a start has in common with every other is over before anybody waits for it: the fork, leaving
the zygote's session and handlers, and the copies of the pages that a start writes to.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.sandbox.mechanisms.cgroup import ChildGroup


class Spare(NamedTuple):
    """The zygote's side."""

    pid: int
    socket: socket.socket
    group: ChildGroup

    def give(self, raw: bytes, fds: Sequence[int]) -> bool:
        """Pass an order on; False when the process has ended without having one."""
        with self.socket:
            try:
                if has_ended(self.pid):
                    return False
                socket.send_fds(self.socket, [raw], fds)
            except OSError:
                return False  # it is ending
            return True


def has_ended(pid: int) -> bool:
    """Tell whether a child of this process waits to be reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Return the zygote's end and the spare's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def wait_for_order(far: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """Return an order of at most ``size`` bytes and ``most`` descriptors, once it is there."""
    with far:
        raw, fds, _, _ = socket.recv_fds(far, size, most)
    if not raw:
        _leave()
    return raw, fds


def _leave() -> NoReturn:
    """End: nobody wants this spare."""
    os._exit(0)
