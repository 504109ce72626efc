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

_INCLUDE = re.compile(r"([ \t]*)-- @include (\w+)\n")
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
    each part comes once, before whatever first asked for it. Comments stay behind. In a function,
    where the line is indented, it is a part of that function alone: what a script seldom needs is
    not made in each of its calls then.

    Raises:
        FileNotFoundError: the script or a part of it does not exist.
    """
    folder = files(__package__) / "lua"
    source = _expand((folder / f"{name}.lua").read_text("utf-8"), folder / "includes", set())
    text = _INDENT.sub("", _COMMENT_LINE.sub("", source))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _expand(source: str, includes: Traversable, seen: set[str]) -> str:
    lines = []
    in_function = set(seen)
    for line in source.splitlines(keepends=True):
        match = _INCLUDE.match(line)
        if match is None:
            lines.append(line)
            if line.startswith("local function"):
                in_function = set(seen)
            continue
        indent, name = match.groups()
        known = in_function if indent else seen
        if name not in known:
            known.add(name)
            lines.append(_expand((includes / f"{name}.lua").read_text("utf-8"), includes, known))
    return "".join(lines)
