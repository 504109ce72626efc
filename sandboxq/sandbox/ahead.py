"""The part of a Landlock ruleset that is the same for every child, made before it is needed.

    fork server, idle ─► prepare ─► ruleset ──fork──► child: take, add its own paths, enforce
                            ▲                    └──► fork server: drop
                            └────────────────────────────┘

Each ruleset is for one child: what a process adds to it, it adds for all who hold the descriptor.
"""

from __future__ import annotations

import contextlib
import os

from sandboxq.errors import MechanismMissing
from sandboxq.sandbox import grants, landlock

_Options = dict[str, bool]
# Device and inode; None where nothing is.
_Seen = list[tuple[int, int] | None]


class RulesetAhead:
    """Keeps one ruleset, and knows for what it was made."""

    def __init__(self) -> None:
        """Begin without one."""
        self._ruleset = -1
        self._options: _Options = {}
        self._seen: _Seen = []

    def prepare(self, options: _Options) -> None:
        """Have a ruleset for these options, and for the files that are there now.

        A file that was replaced has another inode, which the ruleset would not grant.
        """
        paths = [*grants.readable_by_default(**options), *grants.source_folders()]
        seen = [_identity(path) for path in paths]
        if self._ruleset >= 0 and (options, seen) == (self._options, self._seen):
            return
        self.drop()
        self._options, self._seen = options, seen
        with contextlib.suppress(MechanismMissing):  # the child will meet it too, and tell
            self._ruleset = _made(options)

    def take(self, options: _Options) -> int:
        """Return the ruleset, or a new one where none was prepared for these options."""
        if options != self._options:
            self.drop()
        ruleset, self._ruleset = self._ruleset, -1
        return ruleset if ruleset >= 0 else _made(options)

    def drop(self) -> None:
        """Give it up: a child has it, or nobody wants it."""
        if self._ruleset >= 0:
            os.close(self._ruleset)
            self._ruleset = -1


def _made(options: _Options) -> int:
    system = grants.readable_by_default(**options)
    return landlock.reading_ruleset(system, grants.source_folders(), options)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)  # noqa: PTH116 - pathlib is not worth its import here
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
