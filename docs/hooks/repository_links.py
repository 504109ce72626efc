"""Links as the site shows them: titles for file names of pages, plain text for files it lacks.

In the repository a link to ``queues.md`` says so, and may lead to a file outside ``docs/``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

_LINK = re.compile(r"!?\[([^\]]+)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
_HEADING = re.compile(r"^# (.*)$", re.MULTILINE)
_DOCS = Path(__file__).parents[1]


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Write each link as the site shows it."""
    assert page.file.abs_src_path is not None
    here = Path(page.file.abs_src_path).parent
    return _LINK.sub(lambda link: _shown(link, here), markdown)


def _shown(link: re.Match[str], here: Path) -> str:
    text, target, anchor = link.groups()
    path = (here / target).resolve()
    if not path.is_relative_to(_DOCS):
        return text
    if text.rpartition("/")[2] == path.name and path.suffix == ".md" and path.exists():
        return f"[{_title(path)}]({target}{anchor or ''})"
    return link[0]


def _title(page: Path) -> str:
    """Return a page's heading, up to its colon."""
    heading = _HEADING.search(page.read_text())
    return heading[1].partition(":")[0] if heading else page.stem
