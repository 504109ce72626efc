"""The page in use: live numbers, the keyboard, the theme, an action and its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandboxq import Queue

if TYPE_CHECKING:
    from tests.web.browser.conftest import Site, Visit

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
