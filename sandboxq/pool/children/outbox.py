"""Sends orders to a zygote without waiting for it to read them."""

from __future__ import annotations

import array
import logging
import os
import socket
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.pool.children.orders import encode_order

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

_log = logging.getLogger("sandboxq.pool")


class _Parcel(NamedTuple):
    """An order that is to be sent: its packet, its descriptors, and those of them that are ours."""

    raw: bytes
    fds: list[int]
    own: list[int]

    def send(self, control: socket.socket) -> None:
        """Send it whole, or raise OSError."""
        fds = array.array("i", self.fds)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if self.fds else []
        control.sendmsg([self.raw], rights)

    def kept(self) -> _Parcel:
        """Return it with copies of descriptors, whose numbers may be others' when it is sent.

        Raises: OSError, with no copies left.
        """
        with ExitStack() as opened:
            copies = []
            for fd in self.fds:
                copies.append(os.dup(fd))
                opened.callback(os.close, copies[-1])
            opened.pop_all()
        self.close()
        return _Parcel(self.raw, copies, copies)

    def close(self) -> None:
        """Close its own descriptors."""
        for fd in self.own:
            os.close(fd)


class Outbox:
    """Sends orders one after the other, as fast as the zygote reads them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, control: socket.socket) -> None:
        """Send over ``control``, which does not block."""
        self._loop = loop
        self._control = control
        self._waiting: deque[_Parcel] = deque()

    def send(self, order: dict[str, Any], fds: Sequence[int]) -> None:
        """Send an order with these descriptors, now or as soon as there is room.

        Raises: OSError when no descriptors are left for it, and then it is not sent.
        """
        raw, beside = encode_order(order)
        parcel = _Parcel(raw, [*fds, *beside], beside)
        try:
            if not self._waiting and self._is_sent(parcel):
                parcel.close()
                return
            parcel = parcel.kept()
        except OSError:
            parcel.close()
            raise
        self._waiting.append(parcel)
        self._loop.add_writer(self._control.fileno(), self._send_waiting)

    def close(self) -> None:
        """Stop sending; call it before the socket is closed."""
        self._loop.remove_writer(self._control.fileno())
        while self._waiting:
            self._waiting.popleft().close()

    def _is_sent(self, parcel: _Parcel) -> bool:
        """Send, if there is room; to a zygote that has ended it counts as sent: see its pidfd."""
        try:
            parcel.send(self._control)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            return True
        return True

    def _send_waiting(self) -> None:
        while self._waiting:
            try:
                if not self._is_sent(self._waiting[0]):
                    return
            except OSError as error:
                _log.error("an order to a zygote could not be sent: %s", error)
            self._waiting.popleft().close()
        self._loop.remove_writer(self._control.fileno())
