"""The pages as the tests read them: their links, anchors, code blocks and the files they name."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_HEADING = re.compile(r"^#{1,6} +(.*?) *$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]*)\)")
_FENCE = re.compile(r"^(```+).*?^\1 *$", re.MULTILINE | re.DOTALL)
# What files that people change are named like; pictures and measured results are left out.
_TEXTS = {".md", ".py", ".lua", ".toml", ".yml", ".yaml", ".js", ".html", ""}


def pages() -> list[Path]:
    """Return every page for readers: those of docs/ and those at the top."""
    return [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]


@cache
def texts() -> dict[Path, str]:
    """Return the text of each file that is committed or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in done.stdout.splitlines()]
    return {path: path.read_text() for path in paths if path.suffix in _TEXTS and path.is_file()}


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return _FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges and the site make them."""
    return {_anchor(title) for title in _HEADING.findall(prose(page))}


def links(page: Path) -> list[tuple[Path, str]]:
    """Return where a page's links lead: file and anchor."""
    found = []
    for target in _LINK.findall(prose(page)):
        name, _, anchor = target.partition("#")
        found.append(((page.parent / name).resolve() if name else page, anchor))
    return found


def _anchor(title: str) -> str:
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)
    return re.sub(r"[^\w\- ]", "", shown.lower()).strip().replace(" ", "-")
