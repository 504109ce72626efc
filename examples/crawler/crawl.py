"""Fetches a page and adds a job for each link of the same site; each page is fetched once."""

from __future__ import annotations

import hashlib
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.request import urlopen

if TYPE_CHECKING:
    from sandboxq import Job

DEEPEST = 20
MOST_BYTES = 2_000_000
SECONDS = 10


class _Links(HTMLParser):
    """Gathers links and the title."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.title = ""
        self._is_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the target of a link."""
        self._is_title = tag == "title"
        self.found += [value for name, value in attrs if (tag, name) == ("a", "href") and value]

    def handle_data(self, data: str) -> None:
        """Take the text of the title."""
        if self._is_title:
            self.title, self._is_title = data.strip(), False


def job_id(url: str) -> str:
    """Return the id of the job of a page: added again, it is found, and nothing is added."""
    return f"page-{hashlib.sha256(url.encode()).hexdigest()[:32]}"


def process(job: Job) -> dict[str, Any]:
    """Return the title and the number of links of the page at ``url``."""
    url, depth = job.data["url"], job.data.get("depth", 0)
    with urlopen(url, timeout=SECONDS) as answer:  # noqa: S310 - only links of the site come here
        links = _Links()
        links.feed(answer.read(MOST_BYTES).decode("utf-8", "replace"))
    targets = {urldefrag(urljoin(url, each)).url for each in links.found}
    here = [each for each in targets if urlsplit(each)[:2] == urlsplit(url)[:2]]
    if depth < DEEPEST and here:
        job.queue(job.queue_name).add_bulk(
            [
                (
                    "page",
                    {"url": each, "depth": depth + 1},
                    {"job_id": job_id(each), "attempts": 3, "backoff": 1},
                )
                for each in here
            ]
        )
    return {"title": links.title, "links": len(targets)}
