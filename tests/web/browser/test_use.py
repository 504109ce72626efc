"""The page in use: live numbers, the keyboard, the theme, an action and its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq import Queue
from tests.web.browser.conftest import Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.web.browser.conftest import Site

# Sums what moved without being asked to, as browsers do for the metric CLS.
_WATCH_SHIFTS = """
    window.shifted = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.shifted += entry.value;
    }).observe({type: "layout-shift", buffered: true});
"""


def test_numbers_change_and_nothing_moves(visit: Visit, site: Site) -> None:
    """What is read while it changes must not jump."""
    with Queue.sync("use-live", site.redis) as queue:
        queue.add("a", {})
        page = visit.open("/")
        row = page.locator("tr", has_text="use-live")
        row.get_by_text("1", exact=True).first.wait_for()
        page.evaluate(_WATCH_SHIFTS)
        queue.add_bulk([("b", {})] * 1233)
        row.get_by_text("1,234", exact=True).wait_for()
    assert page.evaluate("window.shifted") < 0.02
    assert visit.complaints == []


def test_the_keyboard_is_enough(visit: Visit, site: Site) -> None:
    """Search, help, other pages, rows and the start of the content are reached without a mouse."""
    with Queue.sync("use-keys", site.redis) as queue:
        queue.add("a", {})
    page = visit.open("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.locator("dialog#help").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.matches('a.cover')")
    page.keyboard.press("g")
    page.keyboard.press("a")
    page.wait_for_url("**/audit")


def test_the_theme_is_kept(visit: Visit) -> None:
    """Chosen once, and there before anything is painted the next time."""
    page = visit.open("/")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("[data-click=theme]").click()
    after = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert before != after
    page.reload(wait_until="commit")
    page.wait_for_selector("body", state="attached")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == after


def test_an_action_says_what_came_of_it(visit: Visit, site: Site) -> None:
    """A question first where something ends, then words, then the page as it is now."""
    with Queue.sync("use-act", site.redis) as queue:
        queue.add("a", {})
        page = visit.open("/")
        row = page.locator("tr", has_text="use-act")
        row.get_by_role("button", name="Pause").click()
        page.locator("dialog#confirm").get_by_role("button", name="Pause").click()
        page.locator(".toast", has_text="paused").wait_for()
        row.get_by_role("button", name="Resume").wait_for()
        assert queue.is_paused()
    assert visit.complaints == []


def test_jobs_are_added_picked_and_removed(visit: Visit, site: Site) -> None:
    """The whole way: a form, the new job's page, its row, a selection, and it is gone."""
    with Queue.sync("use-add", site.redis) as queue:
        queue.add("first", {})
        page = visit.open("/queues/use-add/add")
        page.locator("[name=name]").fill("resize")
        page.locator("[name=data]").fill('{"width": 320}')
        page.get_by_role("button", name="Add the job").click()
        page.wait_for_url("**/queues/use-add/jobs/*")
        page.locator("h1", has_text="resize").wait_for()
        page.goto(f"{site.url}/queues/use-add?state=waiting")
        page.get_by_label("Select all of this page").click()
        page.get_by_text("2 selected").wait_for()
        page.get_by_role("button", name="Remove", exact=True).click()
        page.locator("dialog#confirm").get_by_role("button", name="Remove").click()
        page.get_by_text("No job yet").wait_for()
        assert queue.count() == 0
    assert visit.complaints == []


def test_it_is_read_without_scripts(browser: Browser, site: Site) -> None:
    """Who has scripts off sees the same, at the time when the page was asked for."""
    with Queue.sync("use-plain", site.redis) as queue:
        job = queue.add("plain", {"deep": {"answer": 42}})
        job.log("a line of its log")
    plain = Visit(browser, site, java_script_enabled=False)
    try:
        page = plain.open("/queues/use-plain?state=waiting")
        page.get_by_role("link", name="plain", exact=True).click()
        assert "42" in page.locator("#data").inner_text()
        assert page.get_by_text("a line of its log").is_visible()
    finally:
        plain.close()
