"""A message of a child that comes in several packets: gathered, and checked as it comes."""

from __future__ import annotations

import sys
from io import BytesIO

from sandboxq.child.frames import (
    BLOB_HEAD_SIZE,
    DATA,
    DONE,
    HAS_BLOB,
    MORE,
    PROGRESS,
    table_size,
)
from sandboxq.pool.breach import Breach, Flooded
from sandboxq.pool.json_text import JsonText


class LongMessage:
    """Its parts are counted before they are kept, and its JSON is looked at packet by packet."""

    __slots__ = ("_buffer", "_has_blob", "_head", "_limit", "_size", "_texts")

    def __init__(self, kind: int, flags: int, seq: int, limit: int) -> None:
        """Gather a message of at most ``limit`` bytes."""
        self._head, self._limit = (kind, flags | MORE, seq), limit
        self._buffer, self._size = BytesIO(), 0
        self._has_blob = kind == DONE and bool(flags & HAS_BLOB)
        # JSON texts one behind the other, and how long each is.
        self._texts = [(sys.maxsize, JsonText())] if kind in (DONE, PROGRESS, DATA) else []

    def add(self, kind: int, flags: int, seq: int, piece: memoryview) -> None:
        """Take what the next packet has. Raises: Breach."""
        if (kind, flags | MORE, seq) != self._head:
            message = "sent one message in the middle of another"
            raise Breach(message)
        is_first = not self._size
        self._size += len(piece)
        if self._size > self._limit:
            raise Flooded(kind, self._limit)
        self._buffer.write(piece)
        if is_first and self._has_blob:
            if len(piece) < BLOB_HEAD_SIZE:
                message = "sent less than the head of a value"
                raise Breach(message)
            self._texts.insert(0, (table_size(piece), JsonText()))
            piece = piece[BLOB_HEAD_SIZE:]
        self._check(piece)

    def whole(self) -> bytes:
        """Return all of it. Raises: Breach."""
        for _, text in self._texts:
            text.end()
        return self._buffer.getvalue()  # shares the buffer: nothing is copied

    def _check(self, piece: memoryview) -> None:
        while self._texts and len(piece):
            size, text = self._texts[0]
            text.feed(piece[:size])
            if len(piece) < size:
                self._texts[0] = size - len(piece), text
                return
            text.end()
            del self._texts[0]
            piece = piece[size:]
