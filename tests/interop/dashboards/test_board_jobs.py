"""bull-board's buttons on one job: what each did, as sandboxq reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import wait_until_async
from tests.interop.dashboards.board_steps import EDITOR, button, page_of, press, press_and_confirm
from tests.interop.dashboards.filling import FAR_SECONDS, filled

if TYPE_CHECKING:
    from tests.interop.dashboards.browser import Browser
    from tests.interop.our_side import OurSide

pytestmark = pytest.mark.slow


async def test_moving_a_job(browser: Browser, ours: OurSide) -> None:
    """Retry, of what failed and what completed, and promote: the jobs run at the end."""
    async with filled(ours) as jobs:
        moved = jobs.failed[0], jobs.completed[0], jobs.delayed[0]
        for job_id, action in zip(moved, ["retry", "retry", "promote"], strict=True):
            await press_and_confirm(browser, jobs, job_id, action)
            await jobs.until_state(job_id, "waiting")
    # The failed one fails again: it has not its first attempts, and its message is the same.
    async with ours.queue() as queue:
        states = [str(await queue.job_state(job_id)) for job_id in moved]
    assert states == ["failed", "completed", "completed"]


async def test_changing_a_job(browser: Browser, ours: OurSide) -> None:
    """A new time, a new priority, new data."""
    async with filled(ours) as jobs:
        delayed, urgent, waiting = jobs.delayed[0], jobs.prioritized[0], jobs.waiting[0]

        await press(browser, jobs, delayed, "reschedule")
        await browser.fill("#edit-job-run-at", "2040-05-06T07:08")
        await browser.shot("board-reschedule")
        await browser.click(button("Save"))

        async def is_later() -> bool:
            return (await jobs.queue.read_job(delayed)).delay_ms > FAR_SECONDS * 10_000

        await wait_until_async(is_later)

        await press(browser, jobs, urgent, "change priority")
        await browser.fill("#edit-job-priority", "77")
        await browser.click(button("Save"))

        async def is_less_urgent() -> bool:
            return (await jobs.queue.read_job(urgent)).priority == 77

        await wait_until_async(is_less_urgent)

        await press(browser, jobs, waiting, "update data")
        await browser.replace_text(EDITOR, '{"number": "ü"}')
        await browser.shot("board-update-data")
        await browser.click(button("Update"))

        async def has_new_data() -> bool:
            return bool((await jobs.queue.read_job(waiting)).data == {"number": "ü"})

        await wait_until_async(has_new_data)
        assert await jobs.states(delayed, urgent, waiting) == ["delayed", "prioritized", "waiting"]


async def test_duplicating_and_removing_a_job(browser: Browser, ours: OurSide) -> None:
    """A second job with the data of the first; then the first is gone, and its logs with it."""
    async with filled(ours) as jobs:
        original = jobs.completed[0]
        before = await jobs.queue.get_waiting_count()
        await press(browser, jobs, original, "duplicate")
        await browser.see("#job-name")
        await browser.shot("board-duplicate")
        await browser.click(button("Duplicate"))

        async def is_duplicated() -> bool:
            return await jobs.queue.get_waiting_count() == before + 1

        await wait_until_async(is_duplicated)
        (newest, *_) = await jobs.queue.get_waiting(0, -1, ascending=False)
        assert (newest.name, newest.data) == ("report", {"src": "0.jpg", "seen": True})

        await press_and_confirm(browser, jobs, original, "clean")

        async def is_removed() -> bool:
            return await jobs.queue.get_job(original) is None

        await wait_until_async(is_removed)
        assert await jobs.queue.logs(original) == []


async def test_removing_the_children_that_wait(browser: Browser, ours: OurSide) -> None:
    """The parent is free to run once what it waited for is gone."""
    async with filled(ours) as jobs:
        await press_and_confirm(browser, jobs, jobs.parent, "remove unprocessed children")
        await jobs.until_state(jobs.parent, "waiting")
        assert await jobs.queue.get_job(jobs.child) is None
        await browser.goto(page_of(jobs, jobs.parent))
        await browser.shot("board-parent-alone")
