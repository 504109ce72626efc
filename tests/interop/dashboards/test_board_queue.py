"""bull-board's buttons for a queue and its schedulers: what each did, as sandboxq reads it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sandboxq import Repeat
from tests.conftest import wait_until_async
from tests.interop.dashboards.board_steps import EDITOR, button, choose, press_for_all
from tests.interop.dashboards.filling import Filled, filled

if TYPE_CHECKING:
    from tests.interop.dashboards.browser import Browser
    from tests.interop.our_side import OurSide

# Seconds; bull-board calls clean() with this.
CLEANED_AGE = 5.0

pytestmark = pytest.mark.slow


async def until_count(jobs: Filled, state: str, wanted: int) -> None:
    """Wait until so many jobs are in a state."""

    async def are_so_many() -> bool:
        return (await jobs.queue.counts(state))[state] == wanted

    await wait_until_async(are_so_many)


async def are_old_enough(jobs: Filled) -> bool:
    """Whether the jobs are older than what bull-board's "Clean all" leaves alone."""
    newest = await jobs.queue.read_job(jobs.parent)
    return time.time() - newest.timestamp_ms / 1000 > CLEANED_AGE


async def test_pausing_and_limiting(browser: Browser, ours: OurSide) -> None:
    """Pause, resume, global concurrency and global rate, set and removed."""
    async with filled(ours) as jobs:
        queue = jobs.queue
        await choose(browser, jobs, "Pause")
        await browser.click(button("Confirm"))
        await wait_until_async(queue.is_paused)
        await browser.shot("board-paused")
        await choose(browser, jobs, "Resume")
        await browser.click(button("Confirm"))

        async def is_resumed() -> bool:
            return not await queue.is_paused()

        await wait_until_async(is_resumed)

        await choose(browser, jobs, "Set concurrency")
        await browser.fill("#concurrency", "3")
        await browser.click(button("Save"))
        await wait_until_async(queue.get_global_concurrency)
        assert await queue.get_global_concurrency() == 3

        await choose(browser, jobs, "Set rate limit")
        await browser.fill("#rate-limit-max", "9")
        await browser.fill("#rate-limit-duration", "1500")
        await browser.click(button("Save"))
        limit = await wait_until_async(queue.get_global_rate_limit)
        assert (limit.max, limit.duration_ms) == (9, 1500)

        await choose(browser, jobs, "Set rate limit")
        await browser.fill("#rate-limit-max", "")
        await browser.fill("#rate-limit-duration", "")
        await browser.click(button("Save"))

        async def is_unlimited() -> bool:
            return await queue.get_global_rate_limit() is None

        await wait_until_async(is_unlimited)


async def test_moving_all(browser: Browser, ours: OurSide) -> None:
    """Retry all and promote all; everything runs at the end."""
    async with filled(ours) as jobs:
        waiting = await jobs.queue.get_waiting_count()
        await press_for_all(browser, jobs, "failed", "Retry all")
        await until_count(jobs, "waiting", waiting + len(jobs.failed))
        # The next job of "nightly" and the leaves of the flow run now, too.
        await press_for_all(browser, jobs, "delayed", "Promote all")
        await until_count(jobs, "waiting", waiting + len(jobs.failed) + 7)
    async with ours.queue() as queue:
        # Both parents, too, whose children have run.
        assert await queue.get_waiting_children_count() == 0


async def test_cleaning_all(browser: Browser, ours: OurSide) -> None:
    """Clean all, of each tab that has the button."""
    async with filled(ours) as jobs:
        await wait_until_async(lambda: are_old_enough(jobs))
        # BullMQ keeps the next job of each scheduler, and the leaves of a flow go.
        for tab, kept in (("completed", 0), ("failed", 0), ("delayed", 1)):
            await press_for_all(browser, jobs, tab, "Clean all")
            await until_count(jobs, tab, kept)
        await browser.shot("board-cleaned")
        assert await jobs.states(jobs.active) == ["active"]


async def test_adding_a_job(browser: Browser, ours: OurSide) -> None:
    """A job that was written into the page is run by our worker."""
    async with filled(ours) as jobs:
        await choose(browser, jobs, "Add job")
        await browser.fill("#job-name", "echo")
        await browser.replace_text(EDITOR, '{"by": "hand"}')
        await browser.shot("board-add")
        await browser.click(button("Add"))

        async def added() -> str | None:
            found = await jobs.queue.get_waiting(0, -1)
            return next((job.id for job in found if job.data == {"by": "hand"}), None)

        job_id = await wait_until_async(added)
    async with ours.queue() as queue:
        assert (await queue.read_job(job_id)).returnvalue == {"by": "hand"}


async def test_emptying_and_obliterating(browser: Browser, ours: OurSide) -> None:
    """Empty leaves what has run and what runs; obliterate leaves nothing."""
    async with ours.queue() as queue:
        async with filled(ours) as jobs:
            await choose(browser, jobs, "Empty")
            await browser.click(button("Confirm"))
            await until_count(jobs, "waiting", 1)  # the next job of "often"
            assert await jobs.states(jobs.active, jobs.completed[0]) == ["active", "completed"]
        await queue.pause()
        await choose(browser, jobs, "Obliterate")
        await browser.click(button("Confirm"))

        async def is_gone() -> bool:
            return not any((await queue.counts()).values())

        await wait_until_async(is_gone)
        assert await queue.count_schedulers() == 0


async def test_schedulers(browser: Browser, ours: OurSide) -> None:
    """Run now, change the times, remove."""
    async with filled(ours) as jobs:
        queue, waiting = jobs.queue, await jobs.queue.get_waiting_count()
        await browser.goto("/board/job-schedulers")
        await browser.click('[aria-label="Run now"]', button("Confirm"))
        await until_count(jobs, "waiting", waiting + 1)

        await browser.goto("/board/job-schedulers")
        await browser.click('[aria-label="Edit schedule"]')
        await browser.fill("#scheduler-pattern", "0 30 4 * * *")
        await browser.shot("board-edit-scheduler")
        await browser.click(button("Save"))

        async def is_changed() -> bool:
            scheduler = await queue.get_scheduler("nightly")
            return scheduler is not None and scheduler.cron == "0 30 4 * * *"

        await wait_until_async(is_changed)
        # What bull-board wrote is what sandboxq would have written.
        kept = await queue.get_scheduler("nightly")
        await queue.upsert_scheduler(
            "nightly",
            Repeat(cron="0 30 4 * * *", tz="Europe/Berlin"),
            name="echo",
            data={"by": "night"},
        )
        assert await queue.get_scheduler("nightly") == kept

        await browser.goto("/board/job-schedulers")
        await browser.click('[aria-label="Remove scheduler"]', button("Confirm"))

        async def is_removed() -> bool:
            return await queue.get_scheduler("nightly") is None

        await wait_until_async(is_removed)
        assert [each.id for each in await queue.get_schedulers()] == ["often"]
