"""What a running job asks of the coordinator, on its way to who can answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sandboxq.child.frames import MESSAGE_LIMIT, encode_refusal, encode_response

if TYPE_CHECKING:
    from sandboxq.pool.call import Call


class Asking(Protocol):
    """The child that asked."""

    def answer(self, seq: int, payload: bytes) -> None:
        """Send the answer to a question of a running call, unless the child has died."""


class Question:
    """To be answered or refused, once; its job waits. A child that has died hears nothing."""

    __slots__ = ("_child", "_number", "argument", "call", "kind")

    def __init__(
        self, child: Asking, call: Call, *, kind: int, number: int, argument: bytes
    ) -> None:
        """``kind`` is a question of sandboxq.dependencies, ``number`` what the child calls it."""
        self.call = call
        self.kind = kind
        self.argument = argument
        self._child = child
        self._number = number

    def answer(self, replies: Any) -> None:
        """Send the replies of Redis."""
        payload = encode_response(self._number, replies)
        if len(payload) > MESSAGE_LIMIT:
            self.refuse(f"the answer has {len(payload)} bytes, the limit is {MESSAGE_LIMIT}")
        else:
            self._child.answer(self.call.seq, payload)

    def refuse(self, reason: str) -> None:
        """Say why there is no answer; the job gets it as a QueueError."""
        self._child.answer(self.call.seq, encode_refusal(self._number, reason))
