"""What happens in a queue, as it happens: the events stream as something to iterate over."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from sandboxq.broker.codec import json_value
from sandboxq.broker.commands.events import COMPLETED
from sandboxq.broker.connect.blocking import SHORTEST_BLOCK
from sandboxq.broker.connect.connection import leave_to_parent
from sandboxq.broker.connect.stream_position import (
    NEWEST,
    StreamPosition,
    id_from_text,
    text_from_id,
)
from sandboxq.broker.keys import QueueKeys, chosen_prefix
from sandboxq.errors import BrokerUnavailable, UsageError
from sandboxq.model.validation import checked_many, waiting_seconds
from sandboxq.queue.base import LoopBound
from sandboxq.queue.blocking import Blocking, blocking
from sandboxq.queue.event_source import EventSource, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import timedelta

    from sandboxq.broker.connect.broker import Broker

# How long one read blocks inside Redis, as Node's does; then it is asked again.
READ_SECONDS = 10.0

# Not in the stream: told where entries were trimmed before they could be read.
GAP = "gap"


@dataclass(frozen=True, slots=True)
class QueueEvent:
    """One entry of a queue's event stream, or a gap in it.

    ``name`` is BullMQ's (``added``, ``waiting``, ``active``, ``progress``, ``completed``,
    ``failed``, …) or that of a custom event; ``fields`` has the rest by BullMQ's names, with
    ``returnvalue``, progress ``data`` and numbers decoded. Text that cannot be decoded is given as
    it is. The name ``gap`` says that entries were trimmed before they were read: ``missed`` in
    ``fields`` is how many, None when nobody knows.
    """

    id: str
    name: str
    job_id: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


class _Feed(NamedTuple):
    """The connections and the position of reading that has begun."""

    source: EventSource
    place: StreamPosition
    stop: asyncio.Future[None]


class QueueEvents(LoopBound):
    """The events of a queue, in order: ``async for event in QueueEvents("images")``.

    Begins where the stream ends when it is entered, or first read, unless ``last_id`` names the
    event after which to begin (``"0"``: all that is there). A lost connection is made anew and
    reading goes on after the last event. Each object has a place of its own, for one reader at a
    time. All that follow a queue in an event loop share two connections, however many they are.

    Raises BrokerUnavailable when Redis cannot be reached at the beginning.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        prefix: str | None = None,
        last_id: str = NEWEST,
        names: Collection[str] | None = None,
        job_ids: Collection[str] | None = None,
        broker: Broker | None = None,
    ) -> None:
        """Name a queue of the Redis at ``url``, or of an open ``broker``, which stays open.

        ``names`` and ``job_ids`` leave out every other event; a gap is always told.
        """
        self._keys = QueueKeys(name, chosen_prefix(prefix))
        self._url = url
        self._last_id = _checked_last_id(last_id)
        self._names = _checked_filter("names", names)
        self._job_ids = _checked_filter("job_ids", job_ids)
        self._given_broker = broker
        self._feed: _Feed | None = None
        self._abandoned: list[_Feed] = []  # of event loops that have ended
        self._connecting = asyncio.Lock()
        self._ready: deque[QueueEvent] = deque()
        self._is_reading = False
        self._is_held = False  # entered or connected: it will be closed
        self._is_closed = False

    @staticmethod
    def sync(
        name: str,
        url: str | None = None,
        *,
        prefix: str | None = None,
        last_id: str = NEWEST,
        names: Collection[str] | None = None,
        job_ids: Collection[str] | None = None,
    ) -> SyncQueueEvents:
        """Return the same events for a plain ``for``, for code without an event loop."""
        return SyncQueueEvents(
            name, url, prefix=prefix, last_id=last_id, names=names, job_ids=job_ids
        )

    @property
    def last_id(self) -> str:
        """The id after which to go on: give it to another QueueEvents to continue there."""
        return self._last_id

    async def __aenter__(self) -> Self:
        """Connect, and take the place in the stream: what happens from now on is seen."""
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> QueueEvent:
        """Return the next event; ends when this is closed."""
        event = await self.read()
        if event is None:
            raise StopAsyncIteration
        return event

    async def connect(self) -> None:
        """Connect now instead of at the first read. Raises: BrokerUnavailable."""
        self._refuse_when_closed()
        self._come_here()
        self._is_held = True
        await self._connected()

    async def read(self, timeout: float | timedelta | None = None) -> QueueEvent | None:
        """Return the next event; None after ``timeout`` seconds without one, or once closed."""
        self._come_here()
        if self._is_reading:
            message = "these events are being read already; make another QueueEvents"
            raise UsageError(message)
        seconds = None if timeout is None else waiting_seconds("timeout", timeout)
        self._is_reading = True
        try:
            return await self._next(seconds)
        except asyncio.CancelledError:
            if not self._is_held:
                # Perhaps nobody will close it; who reads on goes on behind the last event.
                await self._let_go()
            raise
        finally:
            self._is_reading = False

    async def close(self) -> None:
        """End the iteration and close the connections opened here; may be called twice."""
        self._is_closed = True
        self._come_here()
        await self._let_go()
        await self._close_abandoned()

    # ── inside ──────────────────────────────────────────────────────────────

    def _come_here(self) -> None:
        """Leave the connections of another process or event loop behind; new ones are made."""
        former = self._move_here()
        if former is None:
            return
        self._connecting = asyncio.Lock()
        self._is_reading = False
        feed, self._feed = self._feed, None
        if feed is not None and former.is_of_parent:
            leave_to_parent(feed)
        elif feed is not None:
            self._abandoned.append(feed)

    async def _let_go(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            await self._close_feed(feed)

    async def _close_feed(self, feed: _Feed) -> None:
        if feed.source.is_here and not feed.stop.done():
            feed.stop.set_result(None)
        await feed.source.leave()

    async def _close_abandoned(self) -> None:
        while self._abandoned:
            await self._close_feed(self._abandoned.pop())

    async def _connected(self) -> _Feed:
        async with self._connecting:
            if self._feed is None:
                self._feed = await self._new_feed()
                await self._close_abandoned()
            return self._feed

    async def _new_feed(self) -> _Feed:
        source = source_of(self._keys, self._url, self._given_broker)
        try:
            await source.open()
            place = StreamPosition.after(self._last_id, await source.look())
            self._refuse_when_closed()
        except BaseException:
            await source.leave()
            raise
        self._last_id = text_from_id(place.id)
        return _Feed(source, place, asyncio.get_running_loop().create_future())

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            message = "these events were closed; make another QueueEvents, with their last_id"
            raise UsageError(message)

    async def _next(self, timeout: float | None) -> QueueEvent | None:
        loop = asyncio.get_running_loop()
        ends_at = float("inf") if timeout is None else loop.time() + timeout
        left = ends_at - loop.time()
        while not self._is_closed:
            if self._ready:
                return self._hand_out()
            await self._fill(min(max(left, 0.0), READ_SECONDS))
            left = ends_at - loop.time()
            if left <= 0 and not self._ready:
                break
        return None

    def _hand_out(self) -> QueueEvent:
        event = self._ready.popleft()
        self._last_id = event.id
        if not self._ready and self._feed is not None:
            # Events that were filtered out after it need not be read again either.
            self._last_id = text_from_id(self._feed.place.id)
        return event

    async def _fill(self, seconds: float) -> None:
        """Read what comes within so many seconds; when the connection is lost, nothing."""
        try:
            feed = await self._connected()
        except UsageError:
            # Closed while it connected.
            return
        try:
            await self._read_page(feed, seconds)
        except BrokerUnavailable:
            if not self._is_closed:
                await self._wait_until_back(feed.source.broker, seconds)

    async def _wait_until_back(self, broker: Broker, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, SHORTEST_BLOCK)):
                try:
                    await broker.wait_until_back()
                except BrokerUnavailable:
                    # Its owner closed it.
                    self._is_closed = True

    async def _read_page(self, feed: _Feed, seconds: float) -> None:
        place = feed.place
        before = text_from_id(place.id)
        page = await feed.source.read(before, seconds, feed.stop)
        if page is None:
            return
        look, entries = page
        missed = place.missed(look)
        if missed is not None:
            self._ready.append(QueueEvent(before, GAP, None, {"missed": missed.count}))
        events = [_event(entry_id, texts) for entry_id, texts in entries]
        self._ready.extend(event for event in events if self._is_wanted(event))
        place.advance([id_from_text(entry_id) for entry_id, _ in entries])
        if not self._ready:
            self._last_id = text_from_id(place.id)
        if not self._ready and not entries:
            # Nothing is left before the place where others wait: what comes is brought to them.
            await feed.source.wait(seconds, feed.stop)

    def _is_wanted(self, event: QueueEvent) -> bool:
        if self._names is not None and event.name not in self._names:
            return False
        return self._job_ids is None or event.job_id in self._job_ids


def _event(entry_id: str, texts: Mapping[str, str]) -> QueueEvent:
    fields: dict[str, Any] = dict(texts)
    name, job_id = fields.pop("event", ""), fields.pop("jobId", None)
    for member, read in _READERS.get(name, {}).items():
        if member in fields:
            fields[member] = _read_or_raw(read, fields[member])
    return QueueEvent(entry_id, name, job_id, fields)


def _read_or_raw(read: Callable[[str], Any], text: str) -> Any:
    """Return the value, or the text itself: Node's consumer dies of such an event (wire G1)."""
    try:
        return read(text)
    except ValueError:
        return text


def _json(text: str) -> Any:
    return json_value(text.encode())


# By event, how to read what is not plain text.
_READERS: dict[str, dict[str, Callable[[str], Any]]] = {
    COMPLETED: {"returnvalue": _json},
    "progress": {"data": _json},
    "delayed": {"delay": _json},
    "retries-exhausted": {"attemptsMade": _json},
    "cleaned": {"count": _json},
}


def _checked_last_id(last_id: object) -> str:
    if not isinstance(last_id, str):
        message = f"last_id must be the id of an event, '0' or '$', not {last_id!r}"
        raise UsageError(message)
    if last_id != NEWEST:
        id_from_text(last_id)
    return last_id


def _checked_filter(what: str, wanted: Collection[str] | None) -> frozenset[str] | None:
    if wanted is None:
        return None
    many = list(checked_many(what, wanted))
    if not all(isinstance(each, str) for each in many):
        message = f"{what} must be a collection of texts, not {wanted!r}"
        raise UsageError(message)
    return frozenset(many)


class SyncQueueEvents(Blocking[QueueEvents]):
    """QueueEvents for a plain ``for``, in code without an event loop: the same methods, blocking.

    After a fork the child goes on by itself where the parent stood, on a connection of its own.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        prefix: str | None = None,
        last_id: str = NEWEST,
        names: Collection[str] | None = None,
        job_ids: Collection[str] | None = None,
    ) -> None:
        """See QueueEvents."""
        super().__init__(
            QueueEvents(name, url, prefix=prefix, last_id=last_id, names=names, job_ids=job_ids)
        )

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> QueueEvent:
        """Return the next event; ends when this is closed."""
        event = self.read()
        if event is None:
            raise StopIteration
        return event

    @property
    def last_id(self) -> str:
        """The id after which to go on: give it to another QueueEvents to continue there."""
        return self._twin.last_id

    connect = blocking(QueueEvents.connect)
    read = blocking(QueueEvents.read)
    close = blocking(QueueEvents.close)
