"""What is live on the page: topics that several look at together, for as long as one of them does.

    viewers ──► Live.viewing(topic) ──► Topic ──Watch──► workers        one subscription a topic
            ◄── wake, once a second ◄── state ◄────────────┘

A viewer keeps a place in the topic, and takes what came after it: who is slow gets the newest,
and nothing waits for anybody. Without viewers, and some seconds after the last of those who ask
again and again, a topic ends, and with it what workers send.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from abc import ABC, abstractmethod
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from starlette.exceptions import HTTPException

from sandboxq.errors import BrokerUnavailable, QueueError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable

    from sandboxq.queue.watch import Watch
    from sandboxq.web.context import Dashboard

# Of one process: who looks at once, and at how many different things.
MOST_VIEWERS = 200
MOST_TOPICS = 64
# Seconds for which a topic goes on without a viewer: one who loads the page anew, one who polls.
LINGER, POLLED = 3.0, 10.0
# Seconds that the first look waits for workers to answer.
FIRST_SECONDS = 2.0
TICK = 1.0

# Events to send, each a name and JSON, and the place behind them.
News = tuple[list[tuple[str, Any]], int]


class Topic(ABC):
    """Something to look at: ``begin`` finds it out, ``news`` says what came after a place."""

    def __init__(self, dashboard: Dashboard) -> None:
        """Prepare; ``start`` begins."""
        self.dashboard = dashboard
        self.viewers = 0
        self.name = uuid.uuid4().hex[:8]  # places of another process, or time, are not ours
        self.rendered: dict[Hashable, tuple[Hashable, bytes]] = {}  # see live_routes.py
        self._until = 0.0
        self.version = 0  # how often it has changed
        self._state: dict[str, Any] | None = None  # of this version
        self.trouble = ""  # why nothing can be read
        self._changed = asyncio.Event()
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Start what finds out."""

    @abstractmethod
    async def tick(self) -> None:
        """Find out what is to be asked again and again; then ``tell``."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return all of it."""

    def news(self, place: int) -> News:
        """Return the events after a place (0: from nothing), and the place behind them."""
        if place == self.version:
            return [], place
        if self._state is None:  # once for all who look
            self._state = self.state()
        return [("state", self._state)], self.version

    def tell(self) -> None:
        """Wake all who look."""
        self.version += 1
        self._state = None
        self._first.set()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self, version: int, seconds: float) -> None:
        """Return when it has changed since that version, or after so long."""
        changed = self._changed
        if version == self.version:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await changed.wait()

    async def wait_for_first(self) -> None:
        """Return when there is something, or after FIRST_SECONDS."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await self._first.wait()

    def keep(self, seconds: float) -> None:
        """Go on for so long without viewers."""
        self._until = max(self._until, asyncio.get_running_loop().time() + seconds)

    @property
    def is_over(self) -> bool:
        """Whether nobody looks any more."""
        return self._task is not None and self._task.done()

    def start(self) -> None:
        """Find out, until nobody looks any more."""
        self._task = asyncio.create_task(self._run(), name=f"sandboxq live {type(self).__name__}")

    async def stop(self) -> None:
        """End now."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        self.tell()

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as tasks:
                await self.begin(tasks)
                while self.viewers or clock() < self._until:
                    await self._tick_safely()
                    await asyncio.sleep(TICK)
                raise asyncio.CancelledError  # ends the other tasks of the group

    async def _tick_safely(self) -> None:
        try:
            await self.tick()
        except QueueError as error:
            is_away = isinstance(error, BrokerUnavailable)
            self.trouble = f"Redis {'is away' if is_away else 'refuses'}: {error}"
            self.tell()
        else:
            self.trouble = ""

    def note_of(self, watch: Watch | None) -> str:
        """Return why there is nothing new; nothing while all is well."""
        return self.trouble or (watch.note if watch is not None else "")


class Live:
    """The topics of one page."""

    def __init__(self, dashboard: Dashboard) -> None:
        """Look at nothing yet."""
        self._dashboard = dashboard
        self._topics: dict[Hashable, Topic] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self.viewers = 0
        self.kept: dict[str, Any] = {}  # what topics remember from one time to the next

    @property
    def topics(self) -> dict[Hashable, Topic]:
        """What is looked at now."""
        return {key: topic for key, topic in self._topics.items() if not topic.is_over}

    @property
    def is_closed(self) -> bool:
        """Whether the page ends."""
        return self._is_closed

    async def topic(
        self, key: Hashable, make: Callable[[Dashboard], Topic], seconds: float = POLLED
    ) -> Topic:
        """Return a topic that runs for ``seconds`` at least. Raises: HTTPException, 503."""
        await self._dashboard.broker()
        self._come_here()
        topic = self._topics.get(key)
        if topic is None or topic.is_over:
            if len(self.topics) >= MOST_TOPICS:
                message = f"{MOST_TOPICS} different things are looked at already: try again later"
                raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, message)
            self._topics = self.topics
            topic = self._topics[key] = make(self._dashboard)
            topic.keep(seconds)
            topic.start()
        topic.keep(seconds)
        await topic.wait_for_first()
        return topic

    @contextlib.asynccontextmanager
    async def viewing(
        self, key: Hashable, make: Callable[[Dashboard], Topic]
    ) -> AsyncIterator[Topic]:
        """Look at a topic during the block. Raises: HTTPException, 503."""
        if self.viewers >= MOST_VIEWERS:
            message = f"{MOST_VIEWERS} look at the page already: it is not live, load it anew"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, message)
        self.viewers += 1
        try:
            topic = await self.topic(key, make, LINGER)
            topic.viewers += 1
            try:
                yield topic
            finally:
                topic.viewers -= 1
                topic.keep(LINGER)
        finally:
            self.viewers -= 1

    def _come_here(self) -> None:
        """Forget what belongs to an event loop that has ended."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._topics = loop, {}
        self._is_closed = False

    async def close(self) -> None:
        """End all topics; those who look are told by the end of their streams."""
        self._is_closed = True
        if self._loop is asyncio.get_running_loop():
            for topic in list(self._topics.values()):
                await topic.stop()
            self._topics.clear()


_LIVES: WeakKeyDictionary[Dashboard, Live] = WeakKeyDictionary()


def live_of(dashboard: Dashboard) -> Live:
    """Return what is live on this page."""
    live = _LIVES.get(dashboard)
    if live is None:
        live = _LIVES[dashboard] = Live(dashboard)
    return live
