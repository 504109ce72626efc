"""examples/crawler: each page of a site is fetched once, and never more than the limit says."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxq import Queue
from tests.conftest import wait_until
from tests.examples.programs import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "crawler"
PAGES = 24
A_SECOND = 8


@contextmanager
def site(fetched: Counter[str]) -> Iterator[str]:
    """Serve pages that all link to each other, to a page that is missing and to another site."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched[self.path] += 1
            if self.path == "/missing":
                self.send_error(404)
                return
            links = [f'<a href="/{number}#top">' for number in range(PAGES)]
            links += ['<a href="missing">', '<a href="http://elsewhere.invalid/">']
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"<title>Page {self.path}</title>{''.join(links)}".encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def is_idle(counts: dict[str, int]) -> bool:
    """Tell whether all has ended: the missing page has failed, the others completed."""
    return counts["failed"] == 1 and sum(counts.values()) == counts["completed"] + 1


def test_a_site(tmp_path: Path, server_url: str, queue_name: str) -> None:
    """Every page once, the missing one three times; it takes as long as the limit says."""
    fetched: Counter[str] = Counter()
    command = [sys.executable, "-m", "sandboxq", "run", str(EXAMPLE / "crawl.py")]
    options = ["--queue", queue_name, "--limiter", f"{A_SECOND}/1s", "--procs", "2"]
    with site(fetched) as url, Queue.sync(queue_name, server_url) as queue:
        first = queue.add("page", {"url": f"{url}/0"}, job_id="page-first")
        worker = subprocess.Popen(
            [*command, *options, "--url", server_url], cwd=tmp_path, env=environment({})
        )
        try:
            began = time.monotonic()
            assert first.result(timeout=60)["title"] == "Page /0"
            wait_until(lambda: is_idle(queue.counts()), timeout=120)
            seconds = time.monotonic() - began
        finally:
            worker.terminate()
            assert worker.wait(60) == 0

    assert fetched.pop("/missing") == 3
    # The first one was added by hand, under another id than the crawler gives.
    assert fetched.pop("/0") == 2
    assert fetched == {f"/{number}": 1 for number in range(1, PAGES)}
    assert seconds > (PAGES // A_SECOND) - 1
