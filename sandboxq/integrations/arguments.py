"""The arguments that ``manage.py sandboxq run`` and ``flask sandboxq run`` add."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def arguments_of_run(arguments: Sequence[str], queues: Callable[[], Sequence[str]]) -> list[str]:
    """Return the arguments with queues, and with a folder to watch: the project's, not ours."""
    added = []
    if not _names("--queue", arguments) and "SANDBOXQ_QUEUE" not in os.environ:
        added += [part for queue in queues() for part in ("--queue", queue)]
    if "--reload" in arguments and not _names("--reload-dir", arguments):
        added += ["--reload-dir", "."]
    return [*added, *arguments]


def _names(flag: str, arguments: Sequence[str]) -> bool:
    return any(each == flag or each.startswith(f"{flag}=") for each in arguments)
