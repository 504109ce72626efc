"""A connection that opens when it is first needed, for queues and flow producers alike."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from sandboxq.broker.connection import Broker
from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from sandboxq.clock import Clock
    from sandboxq.tracing import Tracing


class Connected:
    """Something that talks to one Redis. Nothing is sent before the first method is awaited."""

    def __init__(
        self, url: str | None, *, broker: Broker | None, clock: Clock, tracing: Tracing | None
    ) -> None:
        """Use the Redis at ``url`` (see Broker.connect), or an open ``broker``; that stays open."""
        self._url = url
        self._clock = clock
        self._tracing = tracing
        self._broker = broker
        self._owns_broker = broker is None
        self._connecting = asyncio.Lock()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Connect."""
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def connect(self) -> None:
        """Connect now instead of when the first method is awaited; again, after ``close``."""
        self._is_closed = False
        await self._connected()

    async def close(self) -> None:
        """Close the connections that were opened; may be called twice."""
        self._is_closed = True
        if self._owns_broker and self._broker is not None:
            broker, self._broker = self._broker, None
            await broker.close()

    async def _open(self) -> None:
        broker = await Broker.connect(self._url)
        try:
            self._refuse_when_closed()
        except UsageError:
            await broker.close()
            raise
        self._broker = broker

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            # To connect again unasked would leave a connection that nobody closes.
            message = f"this {type(self).__name__} was closed: use it before, or connect() again"
            raise UsageError(message)

    async def _connected(self) -> Broker:
        self._refuse_when_closed()
        if self._broker is None:
            async with self._connecting:
                if self._broker is None:
                    await self._open()
        return self._broker  # type: ignore[return-value]  # there is one by now
