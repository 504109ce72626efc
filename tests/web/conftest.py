"""The page on a real server, asked without a network: ``client``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")

import httpx

from sandboxq.queue.queue import Queue
from sandboxq.web import dashboard

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

HERE = "http://127.0.0.1:8800"
# What a browser says of a request from the page itself.
OWN = {"Sec-Fetch-Site": "same-origin"}


class Client:
    """Asks one page, in an event loop of its own that goes on between requests."""

    def __init__(self, url: str, **options: Any) -> None:
        """Make the page of the Redis at ``url``; options: dashboard's."""
        self.url = url
        self.prefix = options.get("prefix", "bull")
        self.app = dashboard(url, **options)
        self.runner = asyncio.Runner()

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop of the page."""
        return self.runner.run(main)

    def ask(self, method: str, path: str, **extra: Any) -> httpx.Response:
        """Send a request as from this machine."""
        return self.ask_from(("127.0.0.1", 50_000), method, path, **extra)

    def ask_from(
        self, address: tuple[str, int], method: str, path: str, **extra: Any
    ) -> httpx.Response:
        """Send a request as from an address."""

        async def main() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=address)
            async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
                return await client.request(method, path, **extra)

        answer: httpx.Response = self.run(main())
        return answer

    def get(self, path: str, **extra: Any) -> httpx.Response:
        """Read a page."""
        return self.ask("GET", path, **extra)

    def read(self, path: str, **extra: Any) -> Any:
        """Return the JSON of a read under /api/v1."""
        answer = self.get(f"/api/v1{path}", **extra)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **extra: Any) -> httpx.Response:
        """Act, as the page itself does."""
        return self.ask("POST", path, headers=OWN | extra.pop("headers", {}), **extra)

    def act(self, path: str, **arguments: Any) -> Any:
        """Return the JSON of an action under /api/v1."""
        answer = self.post(f"/api/v1{path}", json=arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def queue(self, name: str) -> Queue:
        """Return a queue for ``run``, which the page knows from now on."""
        # Other tests leave many keys behind: a walk over them takes its time.
        self.app.dashboard._discovery.note(name)
        return Queue(name, self.url, prefix=self.prefix)

    def add(self, name: str, *jobs: tuple[Any, ...]) -> list[str]:
        """Add jobs, each ``(name, data)`` or ``(name, data, options)``; return their ids."""

        async def main() -> list[str]:
            async with self.queue(name) as queue:
                return [job.id for job in await queue.add_bulk(list(jobs))]

        ids: list[str] = self.run(main())
        return ids

    def close(self) -> None:
        """Close the connections of the page, and the loop."""
        self.run(self.app.close())
        self.runner.close()


@pytest.fixture
def client(server_url: str, queue_name: str) -> Iterator[Client]:
    """Return a client of the page; its prefix is the test's own, so it shows the test's queues."""
    client = Client(server_url, prefix=f"p{queue_name}")
    yield client
    client.close()
