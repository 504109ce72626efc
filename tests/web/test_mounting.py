"""The page within other applications, as docs/how-to/dashboard-access.md says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from sandboxq.queue.queue import Queue
from sandboxq.web import dashboard, wsgi_dashboard
from tests.web.conftest import HERE, OWN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.web.wsgi import WsgiDashboard

NAME = "a/b%2Fc ü"
PART = quote(NAME, safe="")


def add_to(url: str, prefix: str) -> None:
    """Add a job to the queue of an odd name."""
    with Queue.sync(NAME, url, prefix=prefix) as queue:
        queue.add("x", {"n": 1})


async def ask(app: Any, method: str, path: str) -> httpx.Response:
    """Send a request as a browser of this machine."""
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
        return await client.request(method, path, headers=OWN)


def test_in_starlette(server_url: str, queue_name: str) -> None:
    """Its links have the path where it is mounted; the rest of the application stays."""

    async def hello(_: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    async def main() -> None:
        page = dashboard(server_url, prefix=queue_name, queues=[NAME])
        app = Starlette(routes=[Route("/", hello), Mount("/tools/queues", page)])
        try:
            await looked_at(app, "/tools/queues")
            assert (await ask(app, "GET", "/")).text == "hello"
        finally:
            await page.close()

    add_to(server_url, queue_name)
    asyncio.run(main())


def test_in_fastapi(server_url: str, queue_name: str) -> None:
    """By app.mount."""
    fastapi = pytest.importorskip("fastapi")

    async def main() -> None:
        app = fastapi.FastAPI()
        page = dashboard(server_url, prefix=queue_name, queues=[NAME])
        app.mount("/queues", page)
        try:
            await looked_at(app, "/queues")
        finally:
            await page.close()

    add_to(server_url, queue_name)
    asyncio.run(main())


async def looked_at(app: Any, base: str) -> None:
    """Read, act, and follow the links of the page."""
    page = await ask(app, "GET", f"{base}/")
    assert f'href="{base}/queues/{PART}' in page.text
    row = await ask(app, "GET", f"{base}/api/v1/queues/{PART}")
    assert row.json()["queue"]["name"] == NAME
    done = await ask(app, "POST", f"{base}/api/v1/queues/{PART}/pause")
    assert done.json()["count"] == 1
    assert (await ask(app, "GET", f"{base}/static/app.css")).status_code == 200
    assert (await ask(app, "GET", f"{base}/api/v1/openapi.json")).json()["servers"] == [
        {"url": f"{base}/api/v1"}
    ]
    assert (await ask(app, "GET", f"{base}/nowhere")).status_code == 404


@pytest.fixture
def wsgi_page(server_url: str, queue_name: str) -> Iterator[WsgiDashboard]:
    """Return the page as a WSGI application."""
    add_to(server_url, queue_name)
    page = wsgi_dashboard(server_url, prefix=queue_name, queues=[NAME])
    yield page
    page.close()


def test_in_flask(wsgi_page: WsgiDashboard) -> None:
    """By the dispatcher of Werkzeug, which Flask brings; streams are refused, nothing hangs."""
    flask = pytest.importorskip("flask")
    from werkzeug.middleware.dispatcher import DispatcherMiddleware
    from werkzeug.test import Client

    app = flask.Flask("of_a_test")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/queues": wsgi_page})
    client = Client(app.wsgi_app)
    here: dict[str, Any] = {"base_url": HERE, "environ_overrides": {"REMOTE_ADDR": "127.0.0.1"}}
    page = client.get("/queues/", **here)
    assert f'href="/queues/queues/{PART}' in page.text
    row: Any = client.get(f"/queues/api/v1/queues/{PART}", **here).json
    assert row["queue"]["name"] == NAME
    path = f"/queues/api/v1/queues/{PART}/jobs"
    done: Any = client.post(path, json={"name": "n", "data": "ü" * 70_000}, headers=OWN, **here)
    assert done.status_code == 200, done.text
    job: Any = client.get(f"{path}/{done.json['id']}", **here).json
    assert job["data"]["bytes"] > 140_000
    assert client.post(path, data=b"x" * (9 << 20), headers=OWN, **here).status_code == 413
    assert client.get("/queues/live?topic=overview", **here).status_code == 501
    away = {**here, "environ_overrides": {"REMOTE_ADDR": "203.0.113.9"}}
    assert client.get("/queues/", **away).status_code == 403


def test_in_django(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """By its own users; in a process of its own, as settings are for good."""
    pytest.importorskip("django")
    program = Path(__file__).parent / "sites" / "django_site.py"
    done = subprocess.run(
        [sys.executable, str(program), server_url, queue_name, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "all checked with Django" in done.stdout
