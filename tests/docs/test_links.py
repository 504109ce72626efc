"""Every page and anchor that is named anywhere exists, and the index names every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, anchors, links, pages, texts

# A page in a message, a docstring, a comment or another page: docs/how-to/queues.md#adding.
NAMED = re.compile(r"\bdocs/[\w/.-]+?\.md(?:#[\w-]+)?")


def missing(path: Path, anchor: str) -> str | None:
    """Say what of a link does not exist."""
    if not path.exists():
        return f"no {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}"
    if anchor and anchor not in anchors(path):
        return f"no #{anchor} in {path.name}"
    return None


def target(named: str) -> tuple[Path, str]:
    """Return the file and the anchor of a name like ``docs/how-to/queues.md#adding``."""
    name, _, anchor = named.partition("#")
    return ROOT / name, anchor


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_of_pages(page: Path) -> None:
    """A reader follows them."""
    assert [each for link in links(page) if (each := missing(*link))] == []


def test_pages_that_code_and_texts_name() -> None:
    """An error message that names a page is of no use when the page has moved."""
    found = {
        f"{path.relative_to(ROOT)}: {named}"
        for path, text in texts().items()
        for named in NAMED.findall(text)
        if path != Path(__file__) and missing(*target(named))
    }
    assert found == set()


def test_the_index_names_every_page() -> None:
    """A page that is not in the index is not found."""
    indexed = {path for path, _ in links(DOCS / "index.md")}
    assert {page for page in DOCS.rglob("*.md") if page.name != "index.md"} <= indexed


def test_nobody_is_told_to_install_a_name_that_is_not_ours() -> None:
    """Until sandboxq is on an index, that name there is anybody's."""
    told = re.compile(r"pip install (?:-\S+ )*['\"]?sandboxq(?! @)|['\"]sandboxq\[\w+\]['\"]")
    found = [
        str(path.relative_to(ROOT))
        for path, text in texts().items()
        if path != Path(__file__) and path.name not in ("pyproject.toml", "CHANGELOG.md")
        if told.search(text)
    ]
    assert found == []
