"""What is lent to a child, and who hears how it went."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sandboxq.errors import ChildError
    from sandboxq.outcome import Outcome
    from sandboxq.pool.question import Question

# Seconds: the whole tree is gone 0.3 s after the deadline, also on a busy machine.
TIMEOUT_GRACE = 0.15


class CallState(enum.Enum):
    """Where a call is; pool/calls.py alone moves it."""

    NEW = "new"
    RESERVED = "reserved"  # no child has it
    SENT = "sent"  # a child has it, and perhaps runs it
    BEGUN = "begun"  # its clock runs, as far as the coordinator can tell
    ENDED = "ended"


@dataclass(slots=True, eq=False)
class Call:
    """One run of a job. ``key`` is the job's id, ``payload`` comes from ``frames.encode_call``.

    ``context`` is the caller's; so are ``timeout``, how long it may run, and ``grace``, how long
    after that it is killed, both in seconds. The rest is the pool's: ``number`` is the order of
    submission, ``submitted_at``, ``sent_at`` and ``begun_at`` are seconds of the loop's clock,
    ``unbegun`` counts children that died with it before it began, ``is_packed`` tells that it
    shares a packet, ``usage`` is what it has used once it has ended: µs in all, µs of CPU in its
    code and in the kernel, bytes at the peak.
    ``ending`` is why it is to end, asked for at ``asked_at``; it is killed at ``kill_at``.
    ``blob`` has the arrays and bytes of its data, held until its end: it may be sent again.
    """

    key: bytes
    payload: bytes
    context: Any = None
    number: int = 0
    seq: int = 0
    submitted_at: float = 0.0
    sent_at: float = 0.0
    lines: int = 0
    unbegun: int = 0
    timeout: float | None = None
    grace: float = TIMEOUT_GRACE
    begun_at: float = 0.0
    ending: ChildError | None = None
    asked_at: float = 0.0
    kill_at: float = inf
    usage: tuple[int, int, int, int] | None = None
    blob: CallBlob | None = None
    is_packed: bool = False
    state: CallState = CallState.NEW


class CallBlob(Protocol):
    """The arrays and bytes of a job's data: one buffer, and the table of what is in it."""

    view: memoryview
    table: bytes


class PoolListener(Protocol):
    """Told by the pool, on the loop's thread; must not block, and may submit at once."""

    def on_outcome(self, call: Call, outcome: Outcome, seconds: float) -> None:
        """Take the end of a call, which ran ``seconds``."""

    def on_report(self, call: Call, kind: str, payload: bytes) -> None:
        """Take what a running call wants written: ``kind`` is progress, log or data."""

    def wants_reports(self) -> bool:
        """Tell whether more may come now; else children that report are not read for a while."""

    def on_question(self, question: Question) -> None:
        """Take what a running call wants to know; see that it is answered."""

    def on_lines(self, call: Call | None, pid: int, stream: str, lines: list[str]) -> None:
        """Take lines that a child printed or logged; ``call`` is None outside a job."""

    def on_room(self) -> None:
        """Hear that ``Pool.room`` may have grown."""
