"""What the bull-board tests do on its pages, by its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.interop.dashboards.browser import Browser
    from tests.interop.dashboards.filling import Filled

# The buttons of a job have no names, only icons.
ICONS = {
    "retry": "refresh-cw",
    "promote": "corner-up-left",
    "reschedule": "clock",
    "change priority": "arrow-up-down",
    "duplicate": "files",
    "update data": "pencil",
    "clean": "trash-2",
    "remove unprocessed children": "list-x",
}
EDITOR = ".cm-content"


def page_of(jobs: Filled, *path: str) -> str:
    """Return the path of the queue's page, or of one of its jobs."""
    return "/".join(["/board/queue", jobs.queue.name, *path])


def button(name: str) -> str:
    """Return the selector of a button by its whole name."""
    return f'role=button[name="{name}"]'


async def press(browser: Browser, jobs: Filled, job_id: str, action: str) -> None:
    """Press a button on a job's page."""
    await browser.goto(page_of(jobs, job_id))
    await browser.click(f"button:has(svg.lucide-{ICONS[action]})")


async def press_and_confirm(browser: Browser, jobs: Filled, job_id: str, action: str) -> None:
    """Press a button on a job's page, and say that it is meant."""
    await press(browser, jobs, job_id, action)
    await browser.click(button("Confirm"))


async def choose(browser: Browser, jobs: Filled, item: str) -> None:
    """Choose an entry of the queue's menu, by the start of its name."""
    await browser.goto(page_of(jobs))
    await browser.click("[class*=trigger-GNtOnV]", f"role=menuitem[name=/^{item}/]")


async def press_for_all(browser: Browser, jobs: Filled, tab: str, name: str) -> None:
    """Press a button above the jobs of one tab, and say that it is meant."""
    await browser.goto(page_of(jobs) + f"?status={tab}")
    await browser.click(button(name), button("Confirm"))
