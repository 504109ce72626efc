"""What the Arena tests do on its pages, by its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.interop.dashboards.browser import Browser
    from tests.interop.dashboards.filling import Filled


def page_of(jobs: Filled, *path: str) -> str:
    """Return the path of the queue's page, of a state's, or of a job's."""
    return "/".join(["/arena/ours", jobs.queue.name, *path])


async def press(browser: Browser, jobs: Filled, job_id: str, action: str) -> None:
    """Press a button on a job's page; its question is answered with yes."""
    await browser.goto(page_of(jobs, job_id))
    await browser.click(f".js-{action}-job")


async def press_for_some(
    browser: Browser, jobs: Filled, state: str, job_ids: list[str], action: str
) -> None:
    """Tick these jobs on a state's page and press a button above them."""
    await browser.goto(page_of(jobs, state))
    for job_id in job_ids:
        await browser.click(f'.bulk-job-container:has(input[value="{job_id}"]) .js-bulk-job')
    await browser.click(f'.js-bulk-action[data-action="{action}"]')
