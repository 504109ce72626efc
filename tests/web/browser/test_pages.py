"""Each page in a browser: nothing to complain of, readable by all, at home on any screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from sandboxq import FlowProducer, Queue, Repeat
from tests.web.browser.conftest import Visit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.web.browser.conftest import Site

ATTACK = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
_RULES = "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})"
PAGES = [
    "/",
    "/workers",
    "/stream",
    "/failures",
    "/deaths",
    "/latency",
    "/schedulers",
    "/doctor",
    "/search",
    f"/search?q={quote(ATTACK)}",
    "/search?q=later",
    "/audit",
    "/queues/pages",
    "/queues/pages?state=completed",
    "/queues/pages?search=nothing-of-this",
    "/queues/pages/add?like=x",
    "/queues/pages/limits",
    "/queues/pages/jobs/x",
    "/queues/pages/jobs/top/flow",
    "/queues/pages/jobs/x/profile",
]


@pytest.fixture(scope="module", autouse=True)
def _jobs(site: Site) -> None:
    """Have jobs whose names, data and logs attack who looks at them; a flow; a scheduler."""
    with Queue.sync("pages", site.redis) as queue:
        data = {ATTACK: ATTACK, "password": "not for you", "deep": [{"a": [1, None, True]}] * 3}
        job = queue.add(ATTACK, data, job_id="x")
        job.log(ATTACK)
        queue.add("later", {}, delay=3600)
        queue.upsert_scheduler(ATTACK, Repeat(cron="0 7 * * 1"), name=ATTACK)
    with FlowProducer.sync(site.redis) as flows:
        flows.add(
            name="top",
            queue="pages",
            job_id="top",
            children=[{"name": ATTACK, "queue": "pages"} for _ in range(3)],
        )


@pytest.fixture
def narrow(browser: Browser, site: Site) -> Iterator[Visit]:
    """Yield a dark window as wide as a telephone's."""
    opened = Visit(browser, site, viewport={"width": 375, "height": 700}, color_scheme="dark")
    yield opened
    opened.close()


def test_nothing_to_complain_of(visit: Visit, axe: str) -> None:
    """No script error, nothing against the policy, no attack that worked, nothing unreadable."""
    problems: dict[str, list[str]] = {}
    for path in PAGES:
        page = visit.open(path)
        problems[path] = [*visit.complaints, *violations(page, axe)]
        problems[path] += ["no heading"] * (not page.locator("h1").is_visible())
        problems[path] += ["an attack worked"] * ("taken" in page.title()[:10])
        problems[path] += ["a secret"] * ("not for you" in page.content())
        visit.complaints.clear()
    assert not any(problems.values()), problems


def test_a_narrow_screen(narrow: Visit, axe: str) -> None:
    """Nothing has to be scrolled sideways on a telephone, but tables within their panels."""
    problems: dict[str, list[str]] = {}
    for path in PAGES:
        page = narrow.open(path)
        problems[path] = [*narrow.complaints, *violations(page, axe)]
        wide = page.evaluate("document.documentElement.scrollWidth")
        problems[path] += [f"{wide} pixels wide"] * (wide > 375)
        narrow.complaints.clear()
    assert not any(problems.values()), problems


def violations(page: Any, axe: str) -> list[str]:
    """Return what axe-core finds against WCAG 2.2 AA."""
    page.evaluate(axe)  # as the developer tools do: the page's own policy forbids a script tag
    found = page.evaluate(_RULES)["violations"]
    return [f"{each['id']}: {node['html'][:300]}" for each in found for node in each["nodes"]]
