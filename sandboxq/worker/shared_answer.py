"""One question to Redis for all who ask it within a second, answered in time or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from sandboxq.errors import SandboxqError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

# However many ask, Redis is asked so often.
KEPT_SECONDS = 1.0
# Redis answers within a millisecond. Probes give up after a second.
MOST_SECONDS = 1.0


class SharedAnswer(Generic[T]):
    """What strangers can cause Redis to be asked."""

    def __init__(self, ask: Callable[[], Awaitable[T]], *, most: float = MOST_SECONDS) -> None:
        """Ask by calling ``ask``, which may take ``most`` seconds."""
        self._ask = ask
        self._most = most
        self._asking: asyncio.Task[T | None] | None = None
        self._asked_at = 0.0

    async def get(self) -> T | None:
        """Return an answer that is at most KEPT_SECONDS old; None: Redis is away or refuses."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or now - self._asked_at > KEPT_SECONDS:
            self._asked_at = now
            self._asking = asyncio.create_task(self._answer())
        # Shielded: who gives up must not end it for the others.
        return await asyncio.shield(self._asking)

    async def _answer(self) -> T | None:
        try:
            async with asyncio.timeout(self._most):
                return await self._ask()
        except (TimeoutError, SandboxqError):
            return None
