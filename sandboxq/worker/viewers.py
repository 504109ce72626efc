"""Publishes what a worker does to those who look, each for as long as it has asked for.

    asker ──"facts", for so many seconds──► Control ──► the answer
                                               └──────► Viewers: a message a second to each channel
                                                        until it is not renewed

Many who look at the same thing cost as much as one, but for the PUBLISH. When the last one is gone
nothing is looked at, listened to or sent.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from sandboxq.broker.commands.workers import OF_JOB, OF_STREAM, OF_WORKERS, publish_facts
from sandboxq.errors import BrokerUnavailable, QueueError
from sandboxq.worker.service import Seldom

if TYPE_CHECKING:
    from sandboxq.broker.commands.workers import FactsRequest
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.worker.facts import Facts
    from sandboxq.worker.job_view import JobView, Printed
    from sandboxq.worker.task_stream import Recorder

# Seconds between two messages, in so many parts: how late each ends is the lag of the loop.
INTERVAL = 1.0
_PARTS = 10
# The most seconds for which somebody may ask without asking again.
MOST_SECONDS = 30.0
MOST_VIEWERS = 16


class _Viewed(NamedTuple):
    """What a channel is to be told, and until when, on the loop's clock."""

    of: str
    target: str
    until: float


class Viewers:
    """The channels that are published to."""

    def __init__(
        self, broker: Broker, facts: Facts, recorder: Recorder, job: JobView, printed: Printed
    ) -> None:
        """Publish what ``facts``, ``recorder`` and ``job`` say."""
        self._broker = broker
        self._facts = facts
        self._recorder = recorder
        self._job = job
        self._printed = printed
        facts.printed = printed.by_pid
        self._viewed: dict[str, _Viewed] = {}  # by channel
        self._task: asyncio.Task[None] | None = None
        self._seldom = Seldom()

    def add(self, request: FactsRequest) -> None:
        """Publish to a channel from now on, or go on for so many seconds more."""
        channel, seconds = request.reply_key, request.seconds
        is_full = channel not in self._viewed and len(self._viewed) >= MOST_VIEWERS
        if seconds <= 0 or is_full:
            return
        if request.of == OF_JOB and not self._job.has(request.target):
            return
        until = asyncio.get_running_loop().time() + min(seconds, MOST_SECONDS)
        self._viewed[channel] = _Viewed(request.of, request.target, until)
        self._printed.listen()
        if request.of == OF_STREAM:
            self._recorder.start()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._publish(), name="sandboxq facts")

    async def answer_to(self, request: FactsRequest) -> dict[str, Any]:
        """Return what is answered at once: as much as is published, but of the stream nothing."""
        if request.of == OF_JOB and request.seconds > 0:
            return await self._row(OF_JOB, request.target)
        is_whole = request.seconds > 0 and request.of == OF_WORKERS
        return await self._facts.row(has_children=is_whole)

    def close(self) -> None:
        """Publish no more."""
        self._viewed.clear()
        self._stop_unwatched()
        if self._task is not None:
            self._task.cancel()

    def _stop_unwatched(self) -> None:
        """Stop listening for what nobody looks at."""
        if not any(viewed.of == OF_STREAM for viewed in self._viewed.values()):
            self._recorder.stop()
        if not self._viewed:
            self._printed.stop()
            self._facts.lag = None

    async def _publish(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._viewed:
            await self._pause()
            now = clock()
            self._viewed = {name: it for name, it in self._viewed.items() if it.until > now}
            self._stop_unwatched()
            try:
                await self._publish_once()
            except BrokerUnavailable:
                continue
            except QueueError as error:
                self._viewed.clear()
                self._seldom.warn("`top` and the page do not see this worker any more", error)
            except Exception as error:  # noqa: BLE001 - what is shown must not end what works
                self._viewed.clear()
                self._seldom.warn("the state of this worker cannot be published", error)
        self._stop_unwatched()

    async def _pause(self) -> None:
        """Wait for the next message, and measure meanwhile how late the event loop is."""
        clock, part, lag = asyncio.get_running_loop().time, INTERVAL / _PARTS, 0.0
        for _ in range(_PARTS):
            before = clock()
            await asyncio.sleep(part)
            lag = max(lag, clock() - before - part)
        self._facts.lag = round(lag, 4)

    async def _publish_once(self) -> None:
        messages: dict[tuple[str, str], str] = {}
        for channel, viewed in list(self._viewed.items()):
            what = viewed.of, viewed.target
            if what not in messages:
                messages[what] = json.dumps(await self._row(*what))
            if not await publish_facts(self._broker, channel, messages[what]):
                self._viewed.pop(channel, None)  # nobody listens any more

    async def _row(self, of: str, target: str) -> dict[str, Any]:
        if of == OF_STREAM:
            stream = self._recorder.taken(self._facts.lag or 0.0)
            return {**await self._facts.row(has_children=False), "stream": stream}
        if of == OF_JOB:
            job = await self._job.row(target)
            return {**await self._facts.row(has_children=False), "job": job}
        return await self._facts.row(has_children=True)
