"""``GET /live``: what is live, as a stream of events (text/event-stream).

    /live?topic=workers        event: state   data: the JSON of the topic, each second
    /live?topic=stream         event: all, then event: more
    /live?topic=workers&html=1 event: html    data: the template live/workers.html of the same

A comment comes while there is nothing new. ``id`` is the place in the topic: who reconnects goes on
from there. Who reads too slowly gets what is newest, and is left after a while.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from sandboxq.errors import UsageError
from sandboxq.web.answers import environment, page, url_of
from sandboxq.web.context import dashboard_of
from sandboxq.web.job_topic import JobTopic
from sandboxq.web.live import LINGER, live_of
from sandboxq.web.stream_topic import StreamTopic
from sandboxq.web.topics import OverviewTopic, WorkersTopic

if TYPE_CHECKING:
    import contextlib
    from collections.abc import AsyncIterator, Callable, Hashable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from sandboxq.web.context import Dashboard
    from sandboxq.web.live import Live, Topic

# Seconds between two comments that keep a stream open, and until who takes nothing is left.
HEARTBEAT, SENDING_SECONDS = 15.0, 30.0
# Milliseconds after which a browser connects again.
_RETRY = 2000
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_MOST_PLACE = 20

_log = logging.getLogger("sandboxq.web")

Subject = tuple["Hashable", "Callable[[Dashboard], Topic]"]


def live_routes() -> list[Route]:
    """Return the routes of what is live."""
    return [
        Route("/live", live, methods=["GET"]),
        Route("/workers", workers_page, methods=["GET"]),
        Route("/stream", stream_page, methods=["GET"]),
    ]


async def workers_page(request: Request) -> Response:
    """Show hosts, workers, children and jobs."""
    topic = await live_of(dashboard_of(request)).topic("workers", WorkersTopic, LINGER)
    return _page(request, "workers", "Workers", it=topic.state())


async def stream_page(request: Request) -> Response:
    """Show the task stream; its script asks for what is in it."""
    return _page(request, "stream", "Task stream")


def _page(request: Request, section: str, title: str, **context: Any) -> Response:
    start = ("Overview", url_of(request.scope.get("root_path", ""), ""))
    crumbs = [start, (title, None)]
    return page(request, f"{section}.html", title=title, section=section, crumbs=crumbs, **context)


async def live(request: Request) -> Response:
    """Stream a topic."""
    name, is_html = request.query_params.get("topic", ""), request.query_params.get("html") == "1"
    subject = subject_of(dashboard_of(request), name)
    template = f"live/{name.partition(':')[0]}.html" if is_html else ""
    if template and template not in environment.list_templates():
        message = f"topic {name[:100]!r} has no HTML: ask without html=1"
        raise UsageError(message)
    viewing = live_of(dashboard_of(request)).viewing(*subject)
    topic = await viewing.__aenter__()  # refused before the answer begins
    return _EventStream(request, topic, viewing, template=template)


def subject_of(dashboard: Dashboard, name: str) -> Subject:
    """Return the key of a topic, and what makes it. Raises: UsageError, NotHere."""
    kind, _, rest = name.partition(":")
    match kind:
        case "workers":
            return "workers", WorkersTopic
        case "overview":
            return "overview", OverviewTopic
        case "stream":
            return "stream", StreamTopic
        case "job":
            queue, _, job_id = rest.partition(":")
            return job_subject(dashboard, queue, job_id)
        case _:
            message = f"there is no topic {kind[:100]!r}: overview, workers, stream, job:QUEUE:ID"
            raise UsageError(message)


def job_subject(dashboard: Dashboard, queue: str, job_id: str) -> Subject:
    """Return the topic of a job. Raises: UsageError, NotHere."""
    keys = dashboard.keys(queue)
    if not job_id:
        message = "which job? the topic of one is job:QUEUE:ID"
        raise UsageError(message)
    return ("job", queue, job_id), lambda dashboard: JobTopic(dashboard, keys, job_id)


class _EventStream(Response):
    """Sends a topic until the viewer, the page or the topic is gone."""

    def __init__(
        self,
        request: Request,
        topic: Topic,
        viewing: contextlib.AbstractAsyncContextManager[Topic],
        *,
        template: str,
    ) -> None:
        super().__init__(headers=_HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self._request = request
        self._topic = topic
        self._viewing = viewing
        self._template = template
        self._live: Live = live_of(dashboard_of(request))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until it ends."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            sending = asyncio.create_task(self._send(send))
            gone = asyncio.create_task(_until_gone(receive))
            try:
                await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, gone):
                    task.cancel()
                await asyncio.gather(sending, gone, return_exceptions=True)
        finally:
            await self._viewing.__aexit__(None, None, None)

    async def _send(self, send: Send) -> None:
        try:
            await _sent(send, f"retry: {_RETRY}\n\n".encode())
            async for piece in self._pieces():
                await _sent(send, piece)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:  # the viewer is gone, or reads nothing: TimeoutError
            pass
        except Exception:  # noqa: BLE001 - the boundary of one stream
            _log.exception("a live stream ended: what it shows cannot be read")

    async def _pieces(self) -> AsyncIterator[bytes]:
        topic, place = self._topic, self._first_place()
        while not (self._live.is_closed or topic.is_over):
            version, before = topic.version, place
            events, place = topic.news(place)
            for event, state in events:
                body = self._html(state) if self._template else self._json(before, state)
                yield _event("html" if self._template else event, f"{topic.name}-{place}", body)
            if not events:
                yield b": nothing new\n\n"
            await topic.wait(version, HEARTBEAT)

    def _first_place(self) -> int:
        """Return where a viewer was who connects again; 0 for others."""
        name, _, place = self._request.headers.get("last-event-id", "").partition("-")
        is_place = place.isascii() and place.isdigit() and len(place) < _MOST_PLACE
        return int(place) if is_place and name == self._topic.name else 0

    def _json(self, before: int, state: dict[str, Any]) -> str:
        """Return the JSON; once for all who were at the same place."""
        topic = self._topic
        version, text = topic.rendered.get("json", ((-1, -1), b""))
        if version != (topic.version, before):
            text = json.dumps(state).encode()
            topic.rendered["json"] = (topic.version, before), text
        return text.decode()

    def _html(self, state: dict[str, Any]) -> str:
        """Render the template; once for all who see the same."""
        request, topic = self._request, self._topic
        visitor = request.scope.get("sandboxq.visitor")
        who = (self._template, request.scope.get("root_path", ""), getattr(visitor, "role", None))
        version, text = topic.rendered.get(who, (-1, b""))
        if version != topic.version:
            text = bytes(page(request, self._template, live=state).body)
            topic.rendered[who] = topic.version, text
        return text.decode(errors="replace")


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _sent(send: Send, body: bytes) -> None:
    async with asyncio.timeout(SENDING_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": True})


def _event(name: str, place: str, body: str) -> bytes:
    lines = "\n".join(f"data: {line}" for line in body.split("\n"))
    return f"event: {name}\nid: {place}\n{lines}\n\n".encode()
