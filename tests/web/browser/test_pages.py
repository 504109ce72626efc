"""Each page in a browser: nothing to complain of, readable by all, at home on any screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Queue
from tests.web.browser.conftest import Visit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.web.browser.conftest import Site

ATTACK = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
PAGES = ["/"]


@pytest.fixture(scope="module", autouse=True)
def _jobs(site: Site) -> None:
    """Have jobs whose names, data and logs attack who looks at them."""
    with Queue.sync("pages", site.redis) as queue:
        job = queue.add(ATTACK, {ATTACK: ATTACK, "password": "not for you"}, job_id="x")
        job.log(ATTACK)
        queue.add("later", {}, delay=3600)


@pytest.fixture
def narrow(browser: Browser, site: Site) -> Iterator[Visit]:
    """Yield a dark window as wide as a telephone's."""
    opened = Visit(browser, site, viewport={"width": 375, "height": 700}, color_scheme="dark")
    yield opened
    opened.close()


@pytest.mark.parametrize("path", PAGES)
def test_nothing_to_complain_of(visit: Visit, path: str, axe: str) -> None:
    """No script error, nothing against the policy, no attack that worked, nothing unreadable."""
    page = visit.open(path)
    assert page.locator("h1").is_visible()
    assert "taken" not in page.title()
    assert "not for you" not in page.content()
    assert visit.complaints == []
    assert violations(page, axe) == []


@pytest.mark.parametrize("path", PAGES)
def test_a_narrow_screen(narrow: Visit, path: str, axe: str) -> None:
    """Nothing has to be scrolled sideways on a telephone, but tables within their panels."""
    page = narrow.open(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert violations(page, axe) == []


def violations(page: Any, axe: str) -> list[str]:
    """Return what axe-core finds against WCAG 2.2 AA."""
    page.evaluate(axe)  # as the developer tools do: the page's own policy forbids a script tag
    found = page.evaluate(
        "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})"
    )["violations"]
    return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]
