"""What running jobs report to the coordinator, and what they ask of it.

New data above it is refused, as it would be missed.

What running jobs ask the coordinator, which has Redis: a REQUEST goes out, a RESPONSE comes in.

The answers have a socket of their own, so that a job that waits for one reads no calls.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

from sandboxq.child.frames import (
    DATA,
    LOG,
    MESSAGE_LIMIT,
    REQUEST,
    decode_response,
    encode_request,
    response_number,
)
from sandboxq.errors import QueueError, ResultTooLarge, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.link import Inbox, Link

T = TypeVar("T")


class Reports:
    """Sends the reports of all jobs of one child."""

    __slots__ = ("_link", "runs", "said")

    def __init__(self, link: Link) -> None:
        """Send over ``link``, within its budgets."""
        self._link = link
        self.runs: Callable[[int], bool] = bool  # which calls run: Capture knows
        self.said: dict[int, list[int]] = {}  # by call: reports, their bytes, those dropped

    def send(self, kind: int, seq: int, payload: bytes) -> None:
        """Send progress, a row or new data, unless the job has said too much, or is over.

        Raises:
            ResultTooLarge: it is longer than a message may be, or new data above the budget.
        """
        size = len(payload)
        if size > MESSAGE_LIMIT:
            message = f"{size} bytes are more than the {MESSAGE_LIMIT} that a message may have"
            raise ResultTooLarge(message)
        if not self.runs(seq):
            return  # a thread that the job has left
        budgets = self._link.budgets
        said = self.said.setdefault(seq, [0, 0, 0])
        if said[0] >= budgets.reports or said[1] + size > budgets.report_bytes:
            said[2] += 1
            if kind == DATA:
                raise ResultTooLarge(self._refusal(said, size))
            return
        said[0] += 1
        said[1] += size
        if kind == LOG:
            self._link.logged.add(seq)
        self._link.send(kind, seq, payload)

    def _refusal(self, said: list[int], size: int) -> str:
        budgets = self._link.budgets
        return (
            f"the job's reports may be {budgets.reports} with {budgets.report_bytes} bytes "
            f"together; there were {said[0]} with {said[1]}, and this has {size}: report "
            "less, or raise max_reports and max_report_bytes of the worker"
        )

    def end(self, seq: int) -> None:
        """Forget a job, and say in its log how much was dropped."""
        _, _, dropped = self.said.pop(seq, (0, 0, 0))
        if dropped:
            budgets = self._link.budgets
            row = (
                f"… {dropped} more reports of this job were dropped: it may make {budgets.reports} "
                f"with {budgets.report_bytes} bytes together (max_reports, max_report_bytes)"
            )
            self._link.send(LOG, seq, row.encode())


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
