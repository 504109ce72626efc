"""The live pages in a browser, beside a worker: the tree, the task stream, a running job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import Queue
from tests.conftest import wait_until
from tests.web.browser.test_pages import ATTACK, violations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.web.browser.conftest import Site, Visit

PROCESSOR = Path(__file__).parents[2] / "processors_for_tests.py"
QUEUE = "live"
# Ten thousand bars in eight rows, at most an hour old.
_BARS = """() => {
  const now = Date.now();
  const numbers = (count) => [...Array(count).keys()];
  const rows = numbers(8).map((id) => (
    { id, queue: "q", worker: "w", lane: id, host: "h", pid: id + 1 }
  ));
  const bars = numbers(10000).map((n) => {
    const begin = now - 60000 + n * 6;
    const state = n % 50 ? "completed" : "failed";
    return [n % 8, begin, begin + 40, `name ${n % 12}`, `${n}`, state, 1, 40];
  });
  const told = { now, rows, bars, running: [], marks: [], note: "", workers: 1, left_out: 0 };
  const stream = window.sandboxqStream;
  stream.take(told, true);
  const times = numbers(50).map(() => {
    const at = performance.now();
    stream.draw();
    return performance.now() - at;
  });
  return [stream.count(), times.sort((a, b) => a - b)[25]];
}"""
# The height with twenty places whose child is not known, and whose job ended so many seconds ago.
_BEFORE = """(seconds) => {
  const now = Date.now();
  const ids = [...Array(20).keys()];
  const rows = ids.map((id) => ({ id, queue: "q", worker: "w", lane: id, host: "", pid: null }));
  const end = now - seconds * 1000;
  const bars = ids.map((id) => [id, end - 40, end, "name", `${id}`, "completed", 1, 40]);
  const told = { now, rows, bars, running: [], marks: [], note: "", workers: 1, left_out: 0 };
  window.sandboxqStream.take(told, true);
  return document.querySelector("#stream").clientHeight;
}"""
_BUSY = ".child:has(a)"
_CHANGED = f"before => document.querySelector('{_BUSY}').textContent !== before"


@pytest.fixture(scope="module", autouse=True)
def _worker(site: Site) -> Iterator[None]:
    """Run a worker with a job that stays, of a name that attacks, and two that have ended."""
    command = [sys.executable, "-m", "sandboxq", "run", str(PROCESSOR), "--queue", QUEUE]
    options = ["--procs", "2", "--url", site.redis]
    worker = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
    try:
        with Queue.sync(QUEUE, site.redis) as queue:
            queue.add(ATTACK, {"do": "stay", "seconds": 600}, job_id="stays", timeout=600)
            queue.add_bulk([(ATTACK, {}), ("fails", {"do": "fail"})])
            wait_until(lambda: queue.counts()["failed"] and queue.counts()["completed"])
        yield
    finally:
        worker.kill()
        worker.wait()


def test_the_tree(visit: Visit, axe: str) -> None:
    """It has the running job, and changes by itself."""
    page = visit.open("/workers")
    page.get_by_text("policy limits").wait_for()
    link = page.locator(".child a")
    assert ATTACK.startswith(link.text_content() or "?")
    before = page.locator(_BUSY).text_content()
    page.wait_for_function(
        "before => document.querySelector('.child').textContent !== before", arg=before
    )
    assert page.locator("#link-state").text_content() == "Live"
    assert not [*visit.complaints, *violations(page, axe)]


def test_the_task_stream(visit: Visit, axe: str) -> None:
    """Rows, bars under the pointer, pause, the same as a table; quick with ten thousand bars."""
    page = visit.open("/stream")
    page.get_by_text("Live from 1 worker").wait_for()
    page.locator("#stream-text summary").click()
    page.locator("#stream-rows tr").first.wait_for()
    table = page.locator("#stream-rows").text_content() or ""
    assert "fails" in table
    assert "failed" in table
    assert ATTACK[:80] in table
    canvas = page.locator("#stream")
    canvas.focus()
    page.keyboard.press("Space")
    assert page.locator("#stream-pause").get_attribute("aria-pressed") == "true"
    assert page.locator("#stream-pause").text_content().strip() == "Go on"  # type: ignore[union-attr]
    edges = canvas.bounding_box()
    assert edges is not None

    def shown() -> Any:
        """Point at the right edge of each row, until one of them runs a job."""
        for y in range(30, int(edges["height"]), 6):
            page.mouse.move(edges["x"] + edges["width"] - 20, edges["y"] + y)
            if "(stays): running" in (page.locator("#stream-details").text_content() or ""):
                return True
        return False

    assert wait_until(shown)
    assert not [*visit.complaints, *violations(page, axe)]
    assert page.evaluate(_BEFORE, 1) > page.evaluate(_BEFORE, 1800)
    count, milliseconds = page.evaluate(_BARS)
    assert count == 10_000
    # 5 ms on a free core; 16 are 60 frames a second. A machine with other work takes longer.
    assert milliseconds < 500


def test_a_running_job(visit: Visit, axe: str) -> None:
    """Its stack, its memory, and how much time it has."""
    page = visit.open(f"/queues/{QUEUE}/jobs/stays")
    page.get_by_text("in _stay").wait_for()
    text = page.locator("#running").text_content() or ""
    assert "Deadline" in text
    assert "MB" in text
    assert not [*visit.complaints, *violations(page, axe)]
