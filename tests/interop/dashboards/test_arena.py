"""Arena on a queue that only sandboxq has used: each page shown, each button pressed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import wait_until_async
from tests.interop.dashboards.arena_steps import page_of, press, press_for_some
from tests.interop.dashboards.filling import Filled, filled

if TYPE_CHECKING:
    from tests.interop.dashboards.browser import Browser
    from tests.interop.our_side import OurSide

pytestmark = pytest.mark.slow


async def until_gone(jobs: Filled, job_id: str) -> None:
    """Wait until a job is removed."""

    async def is_gone() -> bool:
        return await jobs.queue.get_job(job_id) is None

    await wait_until_async(is_gone)


async def test_every_page(browser: Browser, ours: OurSide) -> None:
    """The list of queues, a queue, each state, and jobs with results, logs and traces."""
    async with filled(ours) as jobs:
        await browser.goto("/arena")
        await browser.click("a:text('ours')")
        await browser.see(f"text={jobs.queue.name}")
        await browser.shot("arena-home")
        await browser.goto(page_of(jobs))
        await browser.see("text=Pause queue", "text=Redis Statistics")
        await browser.shot("arena-queue")
        for state, job_id in jobs.one_of_each.items():
            await browser.goto(page_of(jobs, state))
            await browser.see(f"h4 >> text={job_id}")
            await browser.shot(f"arena-{state}")
        texts = {
            jobs.completed[0]: ["reported", "second row: größer", "größer"],
            jobs.failed[0]: ["ValueError: boom 0", "Stacktraces"],
            jobs.parent: ["Unprocessed Children"],
            jobs.active: ["Active"],
            jobs.delayed[0]: ["Executes At"],
        }
        for job_id, wanted in texts.items():
            await browser.goto(page_of(jobs, job_id))
            await browser.see(*(f"text={text}" for text in wanted))
            await browser.shot(f"arena-job-{wanted[0].split()[0].strip(':').lower()}")


async def test_flows(browser: Browser, ours: OurSide) -> None:
    """A tree made by sandboxq is found, and one written into the page is run by our worker."""
    async with filled(ours) as jobs:
        await browser.goto("/arena/flows/ours/flows")
        await browser.click(".js-toggle-search-flow")
        # Left empty, Arena asks for NaN jobs of depth NaN, and its own BullMQ answers 500.
        for field, value in (("queue-name", jobs.queue.name), ("job-id", jobs.parent)):
            await browser.fill(f"#{field}-input-search", value)
        for field in ("depth", "max-children"):
            await browser.fill(f"#{field}-input-search", "10")
        await browser.click(".js-search-flow")
        await browser.see(f"#tree >> text={jobs.parent}", f"#tree >> text={jobs.child}")
        await browser.shot("arena-flow")

        tree = {"name": "children", "queueName": jobs.queue.name, "data": {"by": "hand"}}
        leaf = {"name": "echo", "queueName": jobs.queue.name, "data": "leaf"}
        await browser.goto("/arena/flows/ours/flows")
        await browser.click(".js-toggle-add-flow-editor")
        await browser.run_with("window.jsonEditor.set(given)", {**tree, "children": [leaf]})
        await browser.click(".js-add-flow")
        await browser.see("#tree >> text=children")
        found = await jobs.queue.get_waiting_children()
        parent_id = next(job.id for job in found if job.data == {"by": "hand"})
    async with ours.queue() as queue:
        assert await queue.result(parent_id, timeout=15) == ["leaf"]


async def test_one_job(browser: Browser, ours: OurSide) -> None:
    """Retry, promote, remove, new data; and a job written into the page."""
    async with filled(ours) as jobs:
        await press(browser, jobs, jobs.failed[0], "retry")
        await jobs.until_state(jobs.failed[0], "waiting")
        await press(browser, jobs, jobs.delayed[0], "promote")
        await jobs.until_state(jobs.delayed[0], "waiting")
        await press(browser, jobs, jobs.completed[0], "remove")
        await until_gone(jobs, jobs.completed[0])

        changed = jobs.waiting[0]
        await browser.goto(page_of(jobs, changed))
        await browser.run_with("window.jsonEditor.set(given)", {"number": "ü"})
        await browser.click("text=Edit", ".js-update-job-data")

        async def has_new_data() -> bool:
            return bool((await jobs.queue.read_job(changed)).data == {"number": "ü"})

        await wait_until_async(has_new_data)

        await browser.goto(page_of(jobs))
        await browser.click(".js-toggle-add-job-editor")
        await browser.run_with("window.jsonEditor.set(given)", {"by": "hand"})
        await browser.run_with("window.jsonEditorOpts.set(given)", {"priority": 9})
        await browser.fill(".js-add-job-name", "echo")
        await browser.shot("arena-add")
        await browser.click(".js-add-job")

        async def is_added() -> bool:
            found = await jobs.queue.get_prioritized()
            return any((job.data, job.priority) == ({"by": "hand"}, 9) for job in found)

        await wait_until_async(is_added)


async def test_some_jobs_at_once(browser: Browser, ours: OurSide) -> None:
    """Retry, promote and remove what is ticked; clean a state."""
    async with filled(ours) as jobs:
        await press_for_some(browser, jobs, "failed", jobs.failed[:2], "retry")
        for job_id in jobs.failed[:2]:
            await jobs.until_state(job_id, "waiting")
        await press_for_some(browser, jobs, "delayed", jobs.delayed[:2], "promote")
        for job_id in jobs.delayed[:2]:
            await jobs.until_state(job_id, "waiting")
        await press_for_some(browser, jobs, "completed", jobs.completed[:2], "remove")
        for job_id in jobs.completed[:2]:
            await until_gone(jobs, job_id)
        assert await jobs.states(jobs.failed[2], jobs.delayed[2], jobs.completed[2]) == [
            "failed",
            "delayed",
            "completed",
        ]
        await press_for_some(browser, jobs, "completed", [], "clean")
        await until_gone(jobs, jobs.completed[2])
        assert await jobs.queue.get_completed_count() == 0


async def test_the_queue(browser: Browser, ours: OurSide) -> None:
    """Pause, resume, global limits, and the key of a rate limit."""
    async with filled(ours) as jobs:
        queue = jobs.queue
        await browser.goto(page_of(jobs))
        await browser.click(".js-pause-queue")
        await browser.see(".js-resume-queue")
        assert await queue.is_paused()
        await browser.shot("arena-paused")
        await browser.click(".js-resume-queue")
        await browser.see(".js-pause-queue")
        assert not await queue.is_paused()

        await browser.click(".js-toggle-update-queue-meta")
        for field, value in (("concurrency", "3"), ("rl-max", "9"), ("rl-duration", "1500")):
            await browser.fill(f".js-update-meta-{field}", value)
        await browser.shot("arena-limits")
        await browser.click(".js-update-queue-meta")
        limit = await wait_until_async(queue.get_global_rate_limit)
        assert (limit.max, limit.duration_ms) == (9, 1500)
        assert await queue.get_global_concurrency() == 3

        await queue.remove_global_rate_limit()
        await queue.rate_limit(600)
        await browser.goto(page_of(jobs))
        await browser.click(".js-remove-rate-limit-key")

        async def is_free() -> bool:
            return await queue.rate_limit_ttl() <= 0

        await wait_until_async(is_free)
