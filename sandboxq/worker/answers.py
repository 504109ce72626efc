"""Reads for running jobs what they ask of their children, many questions in one round trip.

child ──REQUEST──► pool ──► listener ──take──► run ──► Redis
▲──────────────RESPONSE──────── Question.answer ◄────────┘
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.children import commands_of
from sandboxq.child.frames import decode_page
from sandboxq.dependencies import ALL, PAGE, VALUES, Page
from sandboxq.errors import BrokerUnavailable, QueueError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.children import Command
    from sandboxq.pool.question import Question
    from sandboxq.worker.context import WorkerContext

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
        self._work = asyncio.Event()

    def take(self, question: Question) -> None:
        """Take a question of a running job; what makes no sense is refused at once."""
        job_id = question.call.key.decode(errors="replace")
        try:
            page = _page_from(question)
        except (UsageError, struct.error) as error:
            question.refuse(f"the question is not understood: {error}")
            return
        commands = commands_of(self._keys, job_id, question.kind, page)
        self._asked.append(_Asked(question, commands))
        self._work.set()

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._asked:
                try:
                    await self._answer_some()
                except BrokerUnavailable:
                    await self._broker.wait_until_back(self._telemetry)

    async def _answer_some(self) -> None:
        batch = self._asked[:MOST_QUESTIONS]
        try:
            await self._answer(batch)
        except BrokerUnavailable:
            raise
        except QueueError:
            for asked in batch:
                await self._answer_alone(asked)
        del self._asked[: len(batch)]

    async def _answer(self, batch: Sequence[_Asked]) -> None:
        replies = iter(
            await self._broker.pipeline([each for asked in batch for each in asked.commands])
        )
        for asked in batch:
            mine = [next(replies) for _ in asked.commands]
            asked.question.answer(mine)

    async def _answer_alone(self, asked: _Asked) -> None:
        try:
            await self._answer([asked])
        except BrokerUnavailable:
            raise
        except QueueError as error:
            asked.question.refuse(str(error))


def _page_from(question: Question) -> Page | None:
    if not VALUES <= question.kind <= PAGE:
        message = f"there is no question {question.kind}, the last is {max(ALL, PAGE)}"
        raise UsageError(message)
    return Page.checked(*decode_page(question.argument)) if question.kind == PAGE else None
