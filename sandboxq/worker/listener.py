"""Passes what the pool tells the worker on to the part that handles it.

Questions of running jobs about their children are read here, many in one round trip.

child ──REQUEST──► pool ──► listener ──take──► run ──► Redis
▲──────────────RESPONSE──────── Question.answer ◄────────┘
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.commands.children import commands_of
from sandboxq.child.frames import decode_page
from sandboxq.child.values import ADD, MESSAGES
from sandboxq.errors import BrokerUnavailable, QueueError, UsageError
from sandboxq.model.dependencies import (
    ALL,
    PAGE,
    VALUES,
    Page,
)
from sandboxq.model.outcome import Completed
from sandboxq.observe.telemetry import JobLine, JobLines
from sandboxq.pool.outcomes import Unstored
from sandboxq.worker.attempt import GIVEN_UP, LOST
from sandboxq.worker.messages import Messages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandboxq.broker.commands.children import Command
    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.calls import End, Question
    from sandboxq.pool.pool import Call
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.blob_transfer import BlobTransfer
    from sandboxq.worker.context import WorkerContext
    from sandboxq.worker.job_adds import JobAdds
    from sandboxq.worker.settler import Settler

_log = logging.getLogger("sandboxq.worker")
# Bounds one round trip; what comes after it waits for the next.
MOST_QUESTIONS = 100


class WorkerListener:
    """The worker's side of the pool: outcomes and reports to the settler, room to the claimer."""

    def __init__(
        self,
        context: WorkerContext,
        *,
        settler: Settler,
        answers: Answers,
        adds: JobAdds,
        room: asyncio.Event,
    ) -> None:
        """Set ``room`` whenever the pool may take another call."""
        self._held = context.held
        self._telemetry = context.telemetry
        self._settler = settler
        self._answers = answers
        self._adds = adds
        self.messages = Messages(context.held)
        self._room = room
        # Whether what waits for children is enough for now: told by whoever has the pool.
        self.is_stocked: Callable[[], bool] = bool
        self.blobs: BlobTransfer  # which delivers to the pool, which has to know this one

    def on_outcome(self, call: Call, outcome: Outcome, seconds: float) -> None:
        """Settle the attempt, unless its job belongs to somebody else by now."""
        attempt: Attempt = call.context
        call.blob = None  # its memory is wanted by the next
        if not isinstance(outcome, Completed):  # where it is, there is news of room too
            self._room.set()
        if attempt.state is LOST:
            self._held.gone(attempt)
            return
        if attempt.state is GIVEN_UP and not isinstance(outcome, Completed):
            # Handed back together with the others, in the order in which they were claimed.
            return
        attempt.seconds = seconds
        attempt.usage = call.usage
        if isinstance(outcome, Unstored):
            self.blobs.store(attempt, outcome)
        else:
            self._settler.end(attempt, outcome)

    def on_values(self, ends: Sequence[End]) -> None:
        """Settle attempts whose jobs have returned, those of a packet together."""
        for call, outcome, usage in self._settler.complete_all(ends):
            self.on_outcome(call, outcome, usage[0] / 1_000_000)

    def on_report(self, call: Call, kind: str, payload: bytes) -> None:
        """Write progress, a log row or new data."""
        self._settler.report(call.context, kind, payload)

    def wants_reports(self) -> bool:
        """Tell whether the settler keeps up."""
        return not self._settler.is_flooded

    def on_question(self, question: Question) -> None:
        """Do in Redis what a running job asks for; its messages are here."""
        if question.kind == MESSAGES:
            self.messages.take(question)
        else:
            (self._adds if question.kind == ADD else self._answers).take(question)

    def on_lines(self, call: Call | None, pid: int, stream: str, lines: list[str]) -> None:
        """Show what a child printed or logged, and keep it with its job."""
        job_id, telemetry, attempt, trace = "", self._telemetry, 0, ""
        if call is not None:
            job_id = call.key.decode(errors="replace")
            attempt = call.context.job.attempts_made + 1
            trace = call.context.options.trace_context or ""
            text = "\n".join(lines)
            self._settler.report(call.context, "lines", text.encode(errors="replace"))
        if telemetry.wants(JobLines):
            telemetry.emit(JobLines(job_id, pid, stream, lines, attempt, trace))
        if telemetry.wants(JobLine):
            for line in lines:
                telemetry.emit(JobLine(job_id, pid, stream, line))

    def on_room(self) -> None:
        """Wake the claimer, unless there is nothing for it to do."""
        if not self.is_stocked():
            self._room.set()


class _Asked(NamedTuple):
    """A question and the commands whose replies answer it."""

    question: Question
    commands: list[Command]


class Answers:
    """A service; while Redis is away the questions wait."""

    def __init__(self, context: WorkerContext) -> None:
        """Answer for jobs of this worker's queue."""
        self._broker = context.broker
        self._keys = context.keys
        self._telemetry = context.telemetry
        self._asked: list[_Asked] = []
        self._most = MOST_QUESTIONS
        self._work = asyncio.Event()

    def take(self, question: Question) -> None:
        """Take a question of a running job; what makes no sense is refused at once."""
        job_id = question.call.key.decode(errors="replace")
        try:
            commands = commands_of(self._keys, job_id, question.kind, _page_from(question))
        except (UsageError, ValueError, struct.error) as error:
            question.refuse(f"the question is not understood: {error}")
            return
        self._asked.append(_Asked(question, commands))
        self._work.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            # First what is left from a loop that crashed before.
            self._work.clear()
            while self._asked:
                try:
                    await self._answer_some()
                except BrokerUnavailable:
                    await self._broker.wait_until_back(self._telemetry)
            await self._work.wait()

    async def _answer_some(self) -> None:
        batch = self._asked[: self._most]
        try:
            replies = iter(
                await self._broker.pipeline([each for asked in batch for each in asked.commands])
            )
        except BrokerUnavailable:
            self._most = max(1, len(batch) // 2)
            raise
        except Exception as error:  # noqa: BLE001 - one of many may be the cause: fewer, then alone
            self._most = max(1, len(batch) // 2)
            if len(batch) > 1:
                return
            _refuse(batch[0].question, error)
        else:
            self._most = min(2 * self._most, MOST_QUESTIONS)
            for asked in batch:
                _answer(asked.question, [next(replies) for _ in asked.commands])
        del self._asked[: len(batch)]


def _answer(question: Question, replies: list[Any]) -> None:
    try:
        question.answer(replies)
    except Exception as error:  # noqa: BLE001 - one answer that cannot be sent is no harm to others
        _refuse(question, error)


def _refuse(question: Question, error: Exception) -> None:
    if not isinstance(error, QueueError):
        _log.error("a question of job %r could not be answered", question.call.key, exc_info=error)
    question.refuse(str(error))


def _page_from(question: Question) -> Page | None:
    if not VALUES <= question.kind <= PAGE:
        message = f"question {question.kind} is unknown: the kinds go up to {max(ALL, PAGE)}"
        raise UsageError(message)
    return Page.checked(*decode_page(question.argument)) if question.kind == PAGE else None
