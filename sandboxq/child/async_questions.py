"""What jobs of an ``async def`` processor ask the coordinator: each waits, the others go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from sandboxq.child.frames import REQUEST, STACKS_WANTED, encode_request, response_number
from sandboxq.child.requests import refuse_fork, replies_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandboxq.child.link import Inbox, Link

T = TypeVar("T")


class AsyncQuestions:
    """The requests that have no answer yet."""

    def __init__(
        self, link: Link, inbox: Inbox, on_stacks_wanted: Callable[[], None], *, most: int
    ) -> None:
        """Ask over ``link``, read answers from ``inbox`` on the running loop.

        At most ``most`` questions are under way: who asks more waits before it asks.
        """
        self._room = asyncio.Semaphore(most)
        self._on_stacks_wanted = on_stacks_wanted
        self._link = link
        self._inbox = inbox
        self._number = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        asyncio.get_running_loop().add_reader(inbox.fileno(), self._on_readable)

    async def ask(self, seq: int, question: int, argument: bytes, decode: Callable[[Any], T]) -> T:
        """Return the answer, decoded; see Questions.ask."""
        refuse_fork(self._link)
        async with self._room:
            payload = await self._answer_to(seq, question, argument)
        return decode(replies_from(payload))

    async def _answer_to(self, seq: int, question: int, argument: bytes) -> bytes:
        self._number += 1
        number = self._number
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            request = encode_request(number, argument)
            self._link.send(REQUEST, seq, request, detail=question)
            return await answer
        finally:
            del self._waiting[number]

    def _on_readable(self) -> None:
        try:
            message = self._inbox.receive_now()
        except BlockingIOError:
            return
        if message is None:
            self._link.leave()
        kind, _, payload = message
        if kind == STACKS_WANTED:
            self._on_stacks_wanted()
            return
        answer = self._waiting.get(response_number(payload))
        if answer is not None and not answer.done():  # else its job was cancelled
            answer.set_result(payload)
