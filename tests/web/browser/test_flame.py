"""The flame graph in a real browser: drawn, enlarged, searched, used by keys; nothing complains."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from sandboxq import Queue
from sandboxq.broker.commands.attempts import Report, report
from tests.web.test_profile import NASTY, stored

if TYPE_CHECKING:
    from tests.web.browser.conftest import Site, Visit


async def _kept(site: Site, queue_name: str) -> str:
    async with Queue(queue_name, url=site.redis) as queue:
        job = await queue.add("job", {})
        broker = await queue._connected()
        await report(broker, queue.keys, [Report(job.id.encode(), b"0", "profile", stored())])
        return job.id


def test_a_flame_graph_is_used(site: Site, visit: Visit, queue_name: str) -> None:
    """What is pointed at is told in words, too."""
    with ThreadPoolExecutor(1) as beside:  # Playwright keeps an event loop in this thread
        job_id = beside.submit(asyncio.run, _kept(site, queue_name)).result()
    page = visit.open(f"/queues/{queue_name}/jobs/{job_id}/profile")
    says = page.locator("#flame-says")
    says.get_by_text("all: 100.0 %, 2.00 s").wait_for()
    canvas = page.locator("#flame canvas")
    canvas.focus()
    canvas.press("ArrowDown")
    says.get_by_text("process: 100.0 %").wait_for()
    canvas.press("ArrowDown")
    says.get_by_text(f"{NASTY}: 75.0 %, 1.50 s").wait_for()
    canvas.press("Enter")
    assert page.get_by_role("button", name="Whole").is_enabled()
    canvas.press("Escape")
    assert page.get_by_role("button", name="Whole").is_disabled()
    page.get_by_label("Find a function").fill("process")
    page.get_by_text("100.0 % in what was found").wait_for()
    page.get_by_label("Clock", exact=True).select_option("cpu")
    says.get_by_text("all: 100.0 %, 0.4 ms").wait_for()
    assert visit.complaints == []
