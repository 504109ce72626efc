"""A page of its own, on a server of its own, in Debian's Chromium.

Playwright keeps an event loop in this thread, so the tests use ``Queue.sync``.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.conftest import running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# A busy machine paints late; what does not come at all is seen all the same.
PATIENCE_MS = 60_000


class Site(NamedTuple):
    """Where the page is, and the Redis that it shows."""

    url: str
    redis: str


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yield a page that is served on the loopback."""
    with running_server(tmp_path_factory.mktemp("web")) as redis, served(redis) as url:
        yield Site(url, redis)


@contextlib.contextmanager
def served(redis: str) -> Iterator[str]:
    """Serve the page of a Redis while the block runs; yield its address."""
    uvicorn = pytest.importorskip("uvicorn")
    from sandboxq.web import dashboard

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(dashboard(redis), log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


def browser_program() -> str | None:
    """Return the path of the system's Chromium."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield a browser, or skip where there is none.

    Not longer than for a module: its event loop is in the way of those of other tests.
    """
    program = browser_program()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(_BROWSERS)} is installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()


class Visit:
    """Opens pages in a window of its own, and remembers what the browser complained of."""

    def __init__(self, browser: Browser, site: Site, **options: Any) -> None:
        """Open a window; ``options`` are Playwright's, such as ``color_scheme``."""
        self._site = site
        self._context = browser.new_context(**options)
        self._context.set_default_timeout(PATIENCE_MS)
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def _on_console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def open(self, path: str) -> Page:
        """Open a page."""
        self.page.goto(self._site.url + path, wait_until="load")
        return self.page

    def close(self) -> None:
        """Close the window."""
        self._context.close()


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visit]:
    """Yield a window of the usual size."""
    opened = Visit(browser, site, viewport={"width": 1280, "height": 800})
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """Return the text of axe-core."""
    return (Path(__file__).parent / "vendor/axe.min.js").read_text()
