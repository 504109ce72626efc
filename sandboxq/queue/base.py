"""What queues, flow producers and events share: a connection that opens when it is needed."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NoReturn, Self

from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.connect.connection import LoopBinding, leave_to_parent
from sandboxq.broker.keys import QueueKeys, chosen_prefix
from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandboxq.model.clock import Clock
    from sandboxq.model.job import StoredJob
    from sandboxq.observe.tracing import Tracing
    from sandboxq.queue.job import QueuedJob


class LoopBound:
    """Has connections that belong to the process and the event loop that use it.

    It may be used in one event loop after the other, and after a fork: it then connects again. Two
    event loops at once, in two threads, cannot share it.
    """

    _binding: LoopBinding | None = None

    def __enter__(self) -> NoReturn:
        """Say what to write instead: ``async with``, or the blocking twin.

        Raises: UsageError, always.
        """
        name = type(self).__name__
        message = (
            f"a {name} is used in asynchronous code: write `async with {name}(…)`, or "
            f"`with {name}.sync(…)` in code without an event loop"
        )
        raise UsageError(message)

    def __exit__(self, *_: object) -> None:
        """Needed beside ``__enter__``, which always raises."""

    def _move_here(self) -> LoopBinding | None:
        """Belong to the running event loop; return the former binding if it was another one.

        Raises: UsageError while the other loop runs, in another thread.
        """
        former = self._binding
        if former is not None and former.is_here:
            return None
        if former is not None and former.is_in_use:
            name = type(self).__name__
            message = (
                f"this {name} is in use by the event loop of another thread: make one in each "
                f"event loop, or use {name}.sync(…), which any thread may use"
            )
            raise UsageError(message)
        self._binding = LoopBinding()
        return former


class Connected(LoopBound):
    """Something that talks to one Redis. Nothing is sent before the first method is awaited."""

    # Awaited after each add, before it returns: tests run jobs there.
    after_add: ClassVar[Callable[[], Awaitable[None]] | None] = None

    def __init__(
        self, url: str | None, *, broker: Broker | None, clock: Clock, tracing: Tracing | None
    ) -> None:
        """Use the Redis at ``url`` (see Broker.connect), or an open ``broker``; that stays open."""
        self._url = url
        self._clock = clock
        self._tracing = tracing
        self._broker = broker
        self._owns_broker = broker is None
        self._abandoned: list[Broker] = []  # of event loops that have ended
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
        if self._owns_broker:
            self._come_here()
            broker, self._broker = self._broker, None
            if broker is not None:
                await broker.close()
            await self._close_abandoned()

    async def _open(self) -> None:
        broker = await Broker.connect(self._url, clock=self._clock)
        try:
            self._refuse_when_closed()
        except UsageError:
            await broker.close()
            raise
        self._broker = broker
        await self._close_abandoned()

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            # Connecting again without a call of ``connect`` would leave a connection open.
            message = f"this {type(self).__name__} was closed: use it before, or connect() again"
            raise UsageError(message)

    async def _connected(self) -> Broker:
        self._refuse_when_closed()
        if self._owns_broker:
            self._come_here()
        if self._broker is None:
            async with self._connecting:
                if self._broker is None:
                    await self._open()
        elif not self._owns_broker:
            self._broker.refuse_elsewhere()
        return self._broker  # type: ignore[return-value]  # there is one by now

    def _come_here(self) -> None:
        """Drop the connections of another process or event loop; new ones are made."""
        former = self._move_here()
        if former is None:
            return
        self._connecting = asyncio.Lock()
        self._forget_loop()
        broker, self._broker = self._broker, None
        if broker is None:
            return
        if former.is_of_parent:
            leave_to_parent(broker)
        else:
            self._abandoned.append(broker)

    def _forget_loop(self) -> None:
        """Drop what else belongs to the former event loop."""

    async def _close_abandoned(self) -> None:
        while self._abandoned:
            await self._abandoned.pop().close()


class QueueBase(Connected, ABC):
    """One part of a queue; Queue has them all."""

    def __init__(
        self,
        name: str,
        url: str | None,
        *,
        prefix: str | None,
        broker: Broker | None,
        clock: Clock,
        tracing: Tracing | None,
    ) -> None:
        """See Queue."""
        super().__init__(url, broker=broker, clock=clock, tracing=tracing)
        self._keys = QueueKeys(name, chosen_prefix(prefix))

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._keys.queue

    @property
    def keys(self) -> QueueKeys:
        """The names of the queue's keys."""
        return self._keys

    @abstractmethod
    def _bound(self, job: StoredJob) -> QueuedJob:
        """Return the job as one of this queue."""
