"""bull-board's pages of a queue that only sandboxq has used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.dashboards.board_steps import button, page_of
from tests.interop.dashboards.filling import filled

if TYPE_CHECKING:
    from tests.interop.dashboards.browser import Browser
    from tests.interop.our_side import OurSide

pytestmark = pytest.mark.slow


async def test_the_pages_of_a_queue(browser: Browser, ours: OurSide) -> None:
    """A field that the page cannot read breaks the page, for all jobs on it."""
    async with filled(ours) as jobs:
        await browser.goto("/board")
        await browser.see(f"text={jobs.queue.name}", "text=24 Jobs")
        assert "No workers" not in await browser.text()
        await browser.shot("board-home")

        for tab, job_id in jobs.one_of_each.items():
            await browser.goto(page_of(jobs) + f"?status={tab}")
            await browser.see(f'a[href*="/{job_id}?"]')
            await browser.shot(f"board-{tab}")
        await browser.goto(page_of(jobs))
        await browser.see(f'a[href*="/{jobs.completed[0]}"]')
        await browser.shot("board-latest")


async def test_the_dialogs_about_a_queue(browser: Browser, ours: OurSide) -> None:
    """Who runs the queue's jobs, with which limits, on which Redis."""
    async with filled(ours) as jobs:
        await jobs.queue.set_global_concurrency(7)
        await browser.goto(page_of(jobs))
        await browser.click('[aria-label="Queue info"]')
        await browser.see("text=Connected workers", "text=resizer-2")
        await browser.shot("board-info")
        assert "Global concurrency\n7" in await browser.text()

        await browser.goto(page_of(jobs))
        await browser.click("header button:has(svg[width='42'])")
        await browser.see("text=Redis details", "text=Connected clients")
        await browser.shot("board-redis")

        await browser.goto("/board/job-schedulers")
        await browser.see("text=nightly", "text=Europe/Berlin", "text=every 1h")
        await browser.shot("board-schedulers")


async def test_the_pages_of_jobs(browser: Browser, ours: OurSide) -> None:
    """Data, progress, options, logs, errors and the timeline, as sandboxq wrote them."""
    async with filled(ours) as jobs:
        done, failed = jobs.completed[0], jobs.failed[0]
        shown = [
            (done, "Data", ["seen:", "0.jpg", "reported"]),
            (done, "Progress", ["step:", "größer"]),
            (done, "Logs", ["first row", "second row: größer 🙂"]),
            (failed, "Error", ["ValueError: boom 0", "processor.py"]),
            (failed, "Options", ["attempts:"]),
        ]
        for job_id, tab, texts in shown:
            await browser.goto(page_of(jobs, job_id))
            await browser.click(f'role=tab[name="{tab}"]')
            await browser.see(*(f"text={text}" for text in texts))
            await browser.shot(f"board-job-{tab.lower()}")
        assert "by resizer-1" in await browser.text()
        # Both attempts left their trace.
        await browser.click('role=tab[name="Error"]')
        assert (await browser.text()).count("Traceback") == 2

        await browser.goto(page_of(jobs, jobs.active))
        await browser.see("text=by resizer-2")
        await browser.shot("board-job-active")


async def test_the_tree_of_a_flow(browser: Browser, ours: OurSide) -> None:
    """All four jobs of the tree, with their states."""
    async with filled(ours) as jobs:
        await browser.goto(page_of(jobs, jobs.parent))
        await browser.see("text=2 unfinished", "text=1 unfinished", button("Zoom in"))
        await browser.shot("board-flow")
        assert await browser.count(".react-flow__node") == 4
