"""FastAPI: queues that live as long as the application, and the progress of jobs as a stream.

    sandboxq = Sandboxq()
    app = FastAPI(lifespan=sandboxq.lifespan)
    Images = Annotated[Queue, Depends(sandboxq.queue("images"))]

    @app.get("/images/{job_id}/events")
    async def events(job_id: str, images: Images) -> StreamingResponse:
        return await sandboxq.events(images, job_id)

All requests share one connection pool; all streams of a queue share one reader of its events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from fastapi import HTTPException
from fastapi.responses import StreamingResponse

from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import chosen_prefix
from sandboxq.errors import BrokerUnavailable, UsageError
from sandboxq.model.job import JobState
from sandboxq.queue.events import GAP, QueueEvents
from sandboxq.queue.queue import Queue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from fastapi import FastAPI

    from sandboxq.observe.tracing import Tracing
    from sandboxq.queue.job import QueuedJob
    from sandboxq.queue.options import AddOptions

# Proxies close what is silent for a minute; a comment is nothing to the browser.
KEEP_ALIVE_SECONDS = 15.0
_KEEP_ALIVE = ": keep-alive\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_NAMES = ("progress", "completed", "failed")
# The events are read no more: a stream ends, and the browser asks again.
_LOST = "lost"


class Sandboxq:
    """The queues of one application."""

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str | None = None,
        tracing: Tracing | None = None,
        default_job_options: AddOptions | None = None,
    ) -> None:
        """Use the Redis at ``url`` (see Queue); nothing is connected before the lifespan begins."""
        self._url = url
        self._prefix = chosen_prefix(prefix)
        self._tracing = tracing
        self._defaults = default_job_options
        self._broker: Broker | None = None
        self._queues: dict[str, Queue] = {}
        self._watches: dict[str, _Watch] = {}

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI | None = None) -> AsyncIterator[None]:
        """Connect when the application starts, close when it ends: ``FastAPI(lifespan=…)``.

        An application with a lifespan of its own enters it there: ``async with
        sandboxq.lifespan():``. Raises: BrokerUnavailable.
        """
        self._broker = await Broker.connect(self._url)
        try:
            yield
        finally:
            for watch in self._watches.values():
                await watch.close()
            self._watches, self._queues = {}, {}
            await self._broker.close()
            self._broker = None

    def queue(self, name: str) -> Callable[[], Coroutine[Any, Any, Queue]]:
        """Return a dependency that gives the queue: ``Depends(sandboxq.queue("images"))``."""

        async def dependency() -> Queue:
            return self.open_queue(name)

        return dependency

    def open_queue(self, name: str) -> Queue:
        """Return the queue itself, for code outside of requests.

        Raises: UsageError before the lifespan has begun and after it has ended.
        """
        if self._broker is None:
            message = (
                "the application's lifespan has not begun: write FastAPI(lifespan=sandboxq."
                "lifespan), and `with TestClient(app)` in tests"
            )
            raise UsageError(message)
        if name not in self._queues:
            self._queues[name] = Queue(
                name,
                prefix=self._prefix,
                broker=self._broker,
                tracing=self._tracing,
                default_job_options=self._defaults,
            )
        return self._queues[name]

    async def events(self, queue: Queue, job_id: str) -> StreamingResponse:
        """Return a stream of server-sent events: ``progress``, then ``completed`` or ``failed``.

        Their data is JSON: ``{"progress": …}``, ``{"value": …}``, ``{"reason": …}``. It begins with
        what is known already and ends with the job.
        Raises: HTTPException 404 when there is no such job.
        """
        watch = self._watch(queue)
        watcher = watch.add(job_id)
        try:
            await watch.ready()
            first = await _known(queue, job_id)
        except BaseException:
            watch.remove(job_id, watcher)
            raise
        watcher.put(*first)
        stream = _stream(queue, job_id, watch, watcher)
        await anext(stream)  # begun, it ends the watch also where nobody reads it
        return StreamingResponse(stream, media_type="text/event-stream", headers=_HEADERS)

    def _watch(self, queue: Queue) -> _Watch:
        if queue.name not in self._watches:
            assert self._broker is not None  # noqa: S101 - the queue came from there
            self._watches[queue.name] = _Watch(queue.name, self._prefix, self._broker)
        return self._watches[queue.name]


class _Watcher:
    """What one stream has still to send: the newest progress, and the end."""

    def __init__(self) -> None:
        self._pending: dict[str, Any] = {}
        self._changed = asyncio.Event()

    def put(self, name: str, value: Any) -> None:
        """Keep an event; of progress only the newest, however slow the reader is."""
        self._pending[name] = value
        self._changed.set()

    async def get(self) -> list[tuple[str, Any]]:
        """Return what has come, the end last; nothing after KEEP_ALIVE_SECONDS of silence."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                await self._changed.wait()
        self._changed.clear()
        taken, self._pending = self._pending, {}
        return sorted(taken.items(), key=lambda item: item[0] in {"completed", "failed"})


class _Watch:
    """Reads the events of one queue while anybody watches a job of it."""

    def __init__(self, queue: str, prefix: str, broker: Broker) -> None:
        self._queue = queue
        self._prefix = prefix
        self._broker = broker
        self._watchers: dict[str, set[_Watcher]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._is_ready = asyncio.Event()

    def add(self, job_id: str) -> _Watcher:
        watcher = _Watcher()
        self._watchers.setdefault(job_id, set()).add(watcher)
        if self._reading is None or self._reading.done():
            self._is_ready.clear()
            self._reading = asyncio.create_task(self._read(), name=f"events of {self._queue}")
        return watcher

    def remove(self, job_id: str, watcher: _Watcher) -> None:
        of_job = self._watchers.get(job_id, set())
        of_job.discard(watcher)
        if not of_job:
            self._watchers.pop(job_id, None)
        if not self._watchers and self._reading is not None:
            # Who comes while it ends gets another.
            reading, self._reading = self._reading, None
            self._leaving.add(reading)
            reading.add_done_callback(self._leaving.discard)
            reading.cancel()

    async def ready(self) -> None:
        """Wait until no event from now on is missed. Raises: BrokerUnavailable."""
        reading = self._reading
        assert reading is not None  # noqa: S101 - add() was called
        waiting = asyncio.ensure_future(self._is_ready.wait())
        await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if reading.done() and not reading.cancelled():
            reading.result()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._leaving.add(self._reading)
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _read(self) -> None:
        names = (*_NAMES, "removed")
        try:
            async with QueueEvents(
                self._queue, prefix=self._prefix, broker=self._broker, names=names
            ) as events:
                self._is_ready.set()
                async for event in events:
                    if event.name == GAP:
                        self._tell_all(GAP)
                    for watcher in self._watchers.get(event.job_id or "", ()):
                        watcher.put(event.name, _value(event.name, event.fields))
        finally:
            # Only watchers that came after the last one left are told.
            if self._reading is asyncio.current_task():
                self._tell_all(_LOST)

    def _tell_all(self, name: str) -> None:
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.put(name, None)


def _value(name: str, fields: dict[str, Any]) -> Any:
    return fields.get(
        {"progress": "data", "completed": "returnvalue", "failed": "failedReason"}.get(name, "")
    )


async def _known(queue: Queue, job_id: str) -> tuple[str, Any]:
    """Return what is known of a job by now. Raises: HTTPException 404."""
    # In this order: what a job ended with is there when it is read.
    state = await queue.job_state(job_id)
    job: QueuedJob | None = await queue.get_job(job_id)
    if job is None:
        raise HTTPException(404, f"there is no job {job_id!r} in queue {queue.name!r}")
    if state is JobState.COMPLETED:
        return "completed", job.returnvalue
    if state is JobState.FAILED:
        return "failed", job.failed_reason
    return "progress", job.progress


async def _stream(
    queue: Queue, job_id: str, watch: _Watch, watcher: _Watcher
) -> AsyncIterator[str]:
    try:
        yield ""
        while True:
            events = await watcher.get()
            if not events:
                yield _KEEP_ALIVE
            for name, value in events:
                known = (name, value)
                if name in {GAP, _LOST, "removed"}:
                    try:
                        known = await _known(queue, job_id)
                    except (HTTPException, BrokerUnavailable):
                        return  # the browser asks again, and is told
                yield _text(*known)
                if name == _LOST or known[0] in {"completed", "failed"}:
                    return
    finally:
        watch.remove(job_id, watcher)


_MEMBERS = {"progress": "progress", "completed": "value", "failed": "reason"}


def _text(name: str, value: Any) -> str:
    return f"event: {name}\ndata: {json.dumps({_MEMBERS[name]: value})}\n\n"
