"""Messages of people to running jobs: kept here until the job asks for them, or ends.

asker ──"tell"──► Control ──► Messages ◄──MESSAGES── job.messages()
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from sandboxq.pool.calls import Question
    from sandboxq.worker.attempt import Attempt
    from sandboxq.worker.context import HeldJobs

# Of one job so many wait, each of so many characters.
MOST_MESSAGES, MOST_TEXT = 16, 4096
# Seconds for which an answer waits, to say whether the job has read the message.
READING_SECONDS = 2.0


class _Waiting:
    """What one attempt has not read."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.is_read = asyncio.Event()


class Messages:
    """The messages to the jobs of one worker."""

    def __init__(self, held: HeldJobs) -> None:
        """Take messages to the jobs that are held."""
        self._held = held
        self._waiting: WeakKeyDictionary[Attempt, _Waiting] = WeakKeyDictionary()

    async def told(self, job_id: str, text: str) -> dict[str, Any]:
        """Keep a message for a job; return whether it is here, and has read it."""
        attempt = self._held.get(job_id.encode(errors="surrogateescape"))
        if attempt is None:
            return {"has_it": False, "is_read": False}
        waiting = self._waiting.setdefault(attempt, _Waiting())
        if len(waiting.texts) >= MOST_MESSAGES:
            return {"has_it": True, "is_read": False, "is_full": True}
        waiting.texts.append(text[:MOST_TEXT])
        try:
            async with asyncio.timeout(READING_SECONDS):
                await waiting.is_read.wait()
        except TimeoutError:
            return {"has_it": True, "is_read": False}
        return {"has_it": True, "is_read": True}

    def take(self, question: Question) -> None:
        """Answer a job that asks for its messages."""
        waiting = self._waiting.pop(question.call.context, None)
        texts = [] if waiting is None else waiting.texts
        question.answer([[text.encode(errors="replace") for text in texts]])
        if waiting is not None:
            waiting.is_read.set()
