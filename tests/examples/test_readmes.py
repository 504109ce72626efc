"""The list of the examples is whole, the same on the site, and its links lead somewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import DOCS, ROOT, links

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = ROOT / "examples"
READMES = sorted(EXAMPLES.rglob("README.md"))
LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


def table(page: Path) -> list[str]:
    """Return the rows of a page's table, without where its links lead."""
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    return [LINK.sub(r"\1", row) for row in rows]


def test_the_list_names_every_example_and_the_site_has_it() -> None:
    """An example that is not in the list is not found."""
    listed = EXAMPLES / "README.md"
    folders = {path / "README.md" for path in EXAMPLES.iterdir() if path.is_dir()}
    assert {path for path, _ in links(listed)} == {path for path in folders if path.exists()}
    assert table(listed) == table(DOCS / "tutorial" / "examples.md")


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_what_a_readme_names_is_there(readme: Path) -> None:
    """Its links, the files of its commands, and the test that runs it."""
    text = readme.read_text()
    assert [path for path, _ in links(readme) if not path.exists()] == []
    tests = re.findall(r"`(tests/\w+/test_\w+\.py)`", text)
    assert [name for name in tests if not (ROOT / name).is_file()] == []
    programs = re.findall(r"^(?:python|node) (\w+\.\w+)", text, re.MULTILINE)
    assert [name for name in programs if not (readme.parent / name).is_file()] == []
