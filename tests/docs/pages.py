"""The pages as the tests read them: their links, anchors, code blocks and the files they name."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
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


# ── code blocks ──

_MARK = re.compile(r"<!-- (not run|prints)(?:: (.*?))? -->")
_FILE = re.compile(r"(?:#|//) ([\w-]+\.(?:py|mjs))\n")
# What is read and not run: drawings, answers, data.
_SHOWN = {"", "text", "json", "toml", "yaml", "ini", "dockerfile"}
_COMMAND = re.compile(r"^(?:\$ |python3? |pip |poe |redis-cli )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A code block: ``line`` is the page's line of its first one, ``name`` that of a file.

    ``why_not`` is why it is not run, as the comment above it says; ``is_output`` tells that it
    is what the block before it prints.
    """

    page: Path
    line: int
    language: str
    text: str
    name: str | None
    why_not: str | None
    is_output: bool

    @property
    def is_shown(self) -> bool:
        """Whether it is no code, and does not look like commands either."""
        return self.language in _SHOWN and not _COMMAND.search(self.text)

    def __str__(self) -> str:
        """Tell where it is, as editors find it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return a page's code blocks, in order."""
    found, marks, lines = [], {}, page.read_text().splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if mark := _MARK.fullmatch(line):
            marks[mark[1]] = mark[2] or ""
        if not line.startswith("```"):
            marks = marks if line.startswith("<!--") else {}
            continue
        first = number
        while lines[number] != "```":
            number += 1
        text = "".join(f"{each}\n" for each in lines[first:number])
        number += 1
        file = _FILE.match(text)
        found.append(
            Block(
                page, first + 1, line[3:], text, file[1] if file else None,
                marks.get("not run"), "prints" in marks,
            )
        )  # fmt: skip
        marks = {}
    return found
