"""Loads the Lua scripts of this package and expands what they include."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_INCLUDE = re.compile(r"^-- @include (\w+)\n", re.MULTILINE)
_COMMENT_LINE = re.compile(r"^[ \t]*--.*\n", re.MULTILINE)
_INDENT = re.compile(r"^[ \t]+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua script: its text, ready to be sent, and the SHA-1 by which Redis knows it."""

    name: str
    text: str
    sha: str


@functools.cache
def load(name: str) -> Script:
    """Return the script ``lua/<name>.lua``.

    A line ``-- @include part`` is replaced by ``lua/includes/part.lua``, which may include others;
    each part comes once, before whatever first asked for it. Comments stay behind.

    Raises:
        FileNotFoundError: the script or a part of it does not exist.
    """
    folder = files(__package__) / "lua"
    source = _expand((folder / f"{name}.lua").read_text("utf-8"), folder / "includes", set())
    text = _INDENT.sub("", _COMMENT_LINE.sub("", source))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _expand(source: str, includes: Traversable, seen: set[str]) -> str:
    def part(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        return _expand((includes / f"{name}.lua").read_text("utf-8"), includes, seen)

    return _INCLUDE.sub(part, source)
