"""Blocks of a document that are written by a program: between two comments, whoever reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def with_block(text: str, name: str, block: str) -> str:
    """Return a document whose block of this name is this.

    Raises:
        ValueError: it has no such block, or several.

    """
    begin, end = f"<!-- benchmarks: {name} -->", "<!-- /benchmarks -->"
    pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    changed, count = pattern.subn(lambda found: f"{found[1]}\n{block.strip()}\n\n{found[2]}", text)
    if count != 1:
        message = f"{count} blocks begin with {begin} and end with {end}, not 1"
        raise ValueError(message)
    return changed


def write_block(path: Path, name: str, block: str) -> None:
    """Put a block into a file."""
    text = path.read_text(encoding="utf-8")
    path.write_text(with_block(text, name, block), encoding="utf-8")
