"""What running jobs ask the coordinator, which has Redis: a REQUEST goes out, a RESPONSE comes in.

The answers have a socket of their own, so that a job that waits for one reads no calls.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

from sandboxq.child.frames import REQUEST, decode_response, encode_request, response_number
from sandboxq.errors import QueueError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.link import Inbox, Link

T = TypeVar("T")


class Questions:
    """For processors that are plain functions: who asks is held up until the answer is there."""

    def __init__(self, link: Link, inbox: Inbox) -> None:
        """Ask over ``link``, read answers from ``inbox``."""
        self._inbox = inbox
        self._link = link
        self._number = 0
        # Threads of the job take turns: there is one socket to read from.
        self._lock = threading.Lock()

    def ask(self, seq: int, question: int, argument: bytes, decode: Callable[[Any], T]) -> T:
        """Return the answer, decoded.

        Raises:
            QueueError: Redis, or the coordinator, refused.
            UsageError: a process that the job forked cannot ask.
        """
        refuse_fork(self._link)
        with self._lock:
            self._number += 1
            number = self._number
            request = encode_request(number, argument)
            self._link.send(REQUEST, seq, request, detail=question)
            payload = self._answer_to(number)
        return decode(replies_from(payload))

    def _answer_to(self, number: int) -> bytes:
        while True:
            message = self._inbox.receive()
            if message is None:
                self._link.leave()
            payload = message[2]
            # One that was interrupted while it waited has left its answer behind.
            if response_number(payload) == number:
                return payload


def refuse_fork(link: Link) -> None:
    """Raise UsageError in a process that the job forked: it would take the answers of the job."""
    if not link.is_ours():
        message = "a process that the job forked cannot ask the worker anything: ask before"
        raise UsageError(message)


def replies_from(payload: bytes) -> Any:
    """Return the replies of Redis in a RESPONSE. Raises: QueueError with the text of a refusal."""
    replies, refusal = decode_response(payload)
    if refusal is not None:
        raise QueueError(refusal)
    return replies
