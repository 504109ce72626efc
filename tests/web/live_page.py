"""The page as it is served, and what a browser hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import uvicorn

from sandboxq.web import dashboard
from sandboxq.web.live import live_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandboxq.web.app import DashboardApp
    from sandboxq.web.live import Live

OWN = {"sec-fetch-site": "same-origin"}


class Event(NamedTuple):
    """What came: the event's name, its id, its JSON."""

    name: str
    place: str
    data: Any


class Page:
    """A page that is served on loopback."""

    def __init__(self, app: DashboardApp, http: httpx.AsyncClient) -> None:
        """Ask ``app`` by ``http``."""
        self.app = app
        self.http = http

    @property
    def live(self) -> Live:
        """What is live on it."""
        return live_of(self.app.dashboard)

    async def read(self, path: str) -> Any:
        """Return the JSON of a read."""
        answer = await self.http.get(f"/api/v1{path}", timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def act(self, path: str, **arguments: Any) -> Any:
        """Return the JSON of an action."""
        answer = await self.http.post(f"/api/v1{path}", json=arguments, headers=OWN, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @contextlib.asynccontextmanager
    async def events(self, topic: str, *, after: str = "") -> AsyncIterator[AsyncIterator[Event]]:
        """Look at a topic during the block."""
        headers = {"last-event-id": after} if after else {}
        async with self.http.stream(
            "GET", "/live", params={"topic": topic}, headers=headers, timeout=60
        ) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield _events(answer)

    async def until(self, topic: str, condition: Any, *, after: str = "") -> Event:
        """Look until an event is so."""
        async with asyncio.timeout(60), self.events(topic, after=after) as events:
            async for event in events:
                if condition(event):
                    return event
        raise AssertionError(topic)


async def _events(answer: httpx.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = fields.get(name, "") + value
        elif not line:
            if "data" in fields:
                yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}


@contextlib.asynccontextmanager
async def served(url: str, **options: Any) -> AsyncIterator[Page]:
    """Serve the page of the Redis at ``url`` during the block."""
    app = dashboard(url, **options)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # of old versions
    serving = asyncio.create_task(server._serve([listening]))
    limits = httpx.Limits(max_connections=None)
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=base, limits=limits) as http:
            yield Page(app, http)
    finally:
        await app.close()
        server.should_exit = True
        await serving
        listening.close()
