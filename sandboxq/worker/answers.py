"""Reads for running jobs what they ask of their children, many questions in one round trip.

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
from sandboxq.errors import BrokerUnavailable, QueueError, UsageError
from sandboxq.model.dependencies import (
    ALL,
    PAGE,
    VALUES,
    Page,
)

if TYPE_CHECKING:
    from sandboxq.broker.commands.children import Command
    from sandboxq.pool.calls import Question
    from sandboxq.worker.context import WorkerContext

_log = logging.getLogger("sandboxq.worker")

# Bounds one round trip; what comes after it waits for the next.
MOST_QUESTIONS = 100


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
            # First what lies there: whoever ran before this may have left it.
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
        _log.error("job %r asked what cannot be answered", question.call.key, exc_info=error)
    question.refuse(str(error))


def _page_from(question: Question) -> Page | None:
    if not VALUES <= question.kind <= PAGE:
        message = f"there is no question {question.kind}, the last is {max(ALL, PAGE)}"
        raise UsageError(message)
    return Page.checked(*decode_page(question.argument)) if question.kind == PAGE else None
