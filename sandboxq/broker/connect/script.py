"""The Lua scripts of this package: loaded, expanded, and run by their SHA-1.

A script that the server does not know is sent in full.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from importlib.resources.abc import Traversable

    from sandboxq.broker.connect.resp import Argument

    Calls = Sequence[tuple[Sequence[str | bytes], Sequence[Argument]]]
    Exchange = Callable[[Sequence[Sequence[Argument]]], Awaitable[list[Any]]]

_INCLUDE = re.compile(r"([ \t]*)-- @include (\w+)\n")
_COMMENT_LINE = re.compile(r"^[ \t]*--.*\n", re.MULTILINE)
_INDENT = re.compile(r"^[ \t]+", re.MULTILINE)
# How often a script is sent in full for one call: each time its slot may have moved to a node that
# does not know it.
_LOADS = 3
# Bytes: before larger arguments the script is loaded first, so that they are not sent twice.
_LARGE = 256 << 10
_MISSED = frozenset({NoScriptError})


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
    each part comes once, before what first needs it. Comments are removed. In a function, where the
    line is indented, the part is local to that function: what a script seldom needs is then not
    created in each call.

    Raises:
        FileNotFoundError: the script or a part of it does not exist.
    """
    folder = files("sandboxq.broker") / "lua"
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


class ScriptCalls:
    """The scripts of one broker, and which of them its servers know."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: set[str] = set()

    async def run(
        self, exchange: Exchange, load: Exchange, script: Script, calls: Calls
    ) -> list[Any]:
        """Return the reply of each call; ``load`` sends a command to every server.

        Raises: BrokerUnavailable.
        """
        if script.sha not in self._known and _is_large(calls):
            await load([("SCRIPT", "LOAD", script.text)])
        commands = [("EVALSHA", script.sha, len(k), *k, *a) for k, a in calls]
        replies = await exchange(commands)
        if _MISSED.isdisjoint(map(type, replies)):
            self._known.add(script.sha)
            return replies
        for _ in range(_LOADS):
            # A call that got NOSCRIPT did not run, so running it again is safe.
            missed = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if not missed:
                self._known.add(script.sha)
                break
            self._known.discard(script.sha)
            # EVAL makes the script known to the server that runs it, on any node of a cluster.
            first, *others = (commands[i] for i in missed)
            again = [("EVAL", script.text, *first[2:]), *others]
            for i, result in zip(missed, await exchange(again), strict=True):
                replies[i] = result
        return replies


def _is_large(calls: Calls) -> bool:
    sizes = (len(part) for _, args in calls for part in args if isinstance(part, (bytes, str)))
    return sum(sizes) > _LARGE
