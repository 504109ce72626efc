"""What a child reads from its socket: whole messages."""

from __future__ import annotations

import socket
import struct
from io import BytesIO

from sandboxq.child.frames import HEADER, HEADER_SIZE, MORE, PACKET_SIZE

Message = tuple[int, int, bytes]  # kind, sequence number, payload

_DONT_WAIT = socket.MSG_DONTWAIT
_TIMEOUT = struct.Struct("@ll")  # struct timeval


class Inbox:
    """Reads whole messages from a socket."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over the socket; it stays blocking, as the coordinator shares its flags."""
        self._socket = sock
        self._partial = BytesIO()
        self._partial_seq = 0
        self._next_index = 0

    def fileno(self) -> int:
        """Return the descriptor, for an event loop to watch."""
        return self._socket.fileno()

    def receive(self) -> Message | None:
        """Wait for a message; None when the coordinator is gone."""
        while True:
            packet = self._socket.recv(PACKET_SIZE)
            if not packet:
                return None
            message = self._message(packet)
            if message is not None:
                return message

    def receive_now(self) -> Message | None:
        """Return a message that is there already, else raise BlockingIOError; None as above."""
        while True:
            packet = self._socket.recv(PACKET_SIZE, _DONT_WAIT)
            if not packet:
                return None
            message = self._message(packet)
            if message is not None:
                return message

    def wait_at_most(self, microseconds: int) -> None:
        """Have ``receive`` raise BlockingIOError after so long; 0: wait as long as it takes."""
        timeout = _TIMEOUT.pack(*divmod(microseconds, 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)

    def _message(self, packet: bytes) -> Message | None:
        kind, flags, _, index, seq = HEADER.unpack_from(packet)
        if not flags & MORE and not index:
            return kind, seq, packet[HEADER_SIZE:]
        if not index:
            self._partial, self._partial_seq, self._next_index = BytesIO(), seq, 0
        if seq != self._partial_seq or index != self._next_index:
            # The coordinator took part of this message back: it sends it anew.
            self._partial_seq = 0
            return None
        self._partial.write(memoryview(packet)[HEADER_SIZE:])
        self._next_index += 1
        if flags & MORE:
            return None
        payload = self._partial.getvalue()
        self._partial = BytesIO()
        return kind, seq, payload
