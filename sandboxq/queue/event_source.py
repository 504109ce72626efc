"""Reads the events of a queue for every QueueEvents of an event loop that follows it.

    QueueEvents ─┐                        ┌─► the read in flight: XREAD BLOCK
    QueueEvents ─┼─► EventSource.read ────┤
    QueueEvents ─┘   (what follows an id) └─► XREAD, for who stands before where that one began

Each has a place of its own in the stream, and asks for what follows it. Those at the same place,
most often the end, share one read. However many follow, there are two connections: one that waits,
and one for all else.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

from sandboxq.broker.commands.events import events_after, look_at_events
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.connect.connection import LoopBinding
from sandboxq.broker.connect.resolve import ENVIRONMENT
from sandboxq.broker.connect.stream_position import id_from_text

if TYPE_CHECKING:
    from collections.abc import Hashable

    from sandboxq.broker.connect.blocking import BlockingReader
    from sandboxq.broker.connect.stream_position import Look
    from sandboxq.broker.keys import QueueKeys

# Who is behind asks for so many entries at first, then for what is about so many bytes.
_FIRST_ENTRIES, _MOST_ENTRIES, _BYTES = 10, 1000, 1 << 20

Page = tuple["Look", list[tuple[str, dict[str, str]]]]

# Held by those who follow; forgotten with the last of them, also when nobody has closed it.
_sources: WeakValueDictionary[Hashable, EventSource] = WeakValueDictionary()


class _Reading(NamedTuple):
    """A read in flight, of what follows ``start``."""

    start: str
    task: asyncio.Task[Page]


class EventSource:
    """The events of one queue, for all who follow it in this event loop."""

    def __init__(self, keys: QueueKeys, url: str | None, broker: Broker | None) -> None:
        """See ``source_of``."""
        self._keys = keys
        self._url = url
        self._owns_broker = broker is None
        self._broker = broker
        self._binding = LoopBinding()
        self._opening = asyncio.Lock()
        # One asks at a time, or each would have a connection.
        self._turn = asyncio.Lock()
        self._reader: BlockingReader | None = None
        self._reading: _Reading | None = None
        self._entries = _FIRST_ENTRIES
        self.users = 0

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the running event loop."""
        return self._binding.is_here

    @property
    def broker(self) -> Broker:
        """The connection that all share; there is one once it is open."""
        assert self._broker is not None  # noqa: S101 - open() was awaited
        return self._broker

    async def open(self) -> None:
        """Connect, unless it is. Raises: BrokerUnavailable."""
        async with self._opening:
            if self._broker is None:
                self._broker = await Broker.connect(self._url)
            if self._reader is None:
                name, key = f"{self._keys.client_name}:qe", self._keys["events"]
                self._reader = await self._broker.blocking(name, key)

    async def look(self) -> Look:
        """Return which part of the stream is there. Raises: BrokerUnavailable."""
        async with self._turn:
            return await look_at_events(self.broker, self._keys)

    async def read(self, last_id: str, seconds: float, stop: asyncio.Future[None]) -> Page | None:
        """Return what follows an id, and what of the stream was there before that was read.

        None after ``seconds`` or when ``stop`` is done. Raises: BrokerUnavailable.
        """
        reading = self._reading
        if reading is None or reading.task.done():
            reading = self._reading = self._new_reading(last_id, seconds)
            # It ends by itself after so long, and may have to connect before.
            await self.wait(None, stop)
        elif id_from_text(last_id) < id_from_text(reading.start):
            return await self._page_after(last_id)
        else:
            await self.wait(seconds, stop)
        # Who is beyond its start was told of an entry that it is about to bring.
        is_mine = reading.start == last_id
        if is_mine and reading.task.done() and not reading.task.cancelled():
            return reading.task.result()
        return None

    async def wait(self, seconds: float | None, stop: asyncio.Future[None]) -> None:
        """Wait until the read in flight has ended, ``stop`` is done, or so long if that is said."""
        if self._reading is not None:
            ends: set[asyncio.Future[Any]] = {self._reading.task, stop}
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def leave(self) -> None:
        """Close the connections if nobody else follows."""
        self.users -= 1
        if self.users:
            return
        reading, self._reading = self._reading, None
        if self._reader is not None:
            await self._reader.close()
        if reading is not None and self.is_here:
            reading.task.cancel()
            await asyncio.wait({reading.task})
        if self._owns_broker and self._broker is not None:
            await self._broker.close()

    def _new_reading(self, start: str, seconds: float) -> _Reading:
        assert self._reader is not None  # noqa: S101 - open() was awaited
        reading = self._reader.look_and_read_events(self._keys["events"], start, seconds)
        task = asyncio.create_task(reading, name=f"{self._keys.client_name}:qe")
        task.add_done_callback(_note)
        return _Reading(start, task)

    async def _page_after(self, last_id: str) -> Page:
        async with self._turn:
            look, entries = await events_after(self.broker, self._keys, last_id, self._entries)
        if entries:
            size = sum(len(text) for _, fields in entries for text in fields.values())
            wanted = min(_MOST_ENTRIES, 2 * self._entries, _BYTES * len(entries) // (size + 1))
            self._entries = max(1, wanted)
        return look, entries


def source_of(keys: QueueKeys, url: str | None, broker: Broker | None) -> EventSource:
    """Return the source of a queue's events, that of others who follow it here; ``leave`` it.

    It uses the Redis at ``url`` as Broker.connect does, or ``broker``, which stays open.
    """
    key: Any = (id(broker),) if broker is not None else (url, *_surroundings(url))
    key = (os.getpid(), id(asyncio.get_running_loop()), keys.base, *key)
    source = _sources.get(key)
    if source is None or not source.users or not source.is_here:
        source = _sources[key] = EventSource(keys, url, broker)
    source.users += 1
    return source


def _surroundings(url: str | None) -> tuple[str | None, ...]:
    """Return what says which Redis is meant where no URL does."""
    return () if url else (*(os.environ.get(name) for name in ENVIRONMENT), os.path.realpath("."))


def _note(task: asyncio.Task[Page]) -> None:
    """Look at its error: perhaps nobody waits for it any more."""
    if not task.cancelled():
        task.exception()
