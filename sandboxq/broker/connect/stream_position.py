"""Where a reader is in an events stream, and how much of it was trimmed before it was read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Milliseconds and a number within them: ids compare as these do.
EntryId = tuple[int, int]

# The last entry at the time reading begins: what follows it is read.
NEWEST = "$"
BEGINNING: EntryId = (0, 0)

_ENTRY_ID = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?", re.ASCII)


def id_from_text(text: str) -> EntryId:
    """Return the id. Raises: UsageError unless it is ``<ms>`` or ``<ms>-<number>``."""
    match = _ENTRY_ID.fullmatch(text)
    if match is None:
        message = f"{text!r} is no id of a stream: those are like 1795360570114-0"
        raise UsageError(message)
    return int(match[1]), int(match[2] or 0)


def text_from_id(entry_id: EntryId) -> str:
    """Return the id as Redis writes it."""
    return f"{entry_id[0]}-{entry_id[1]}"


class Look(NamedTuple):
    """The state of a stream: entries from ``first`` (None: it is empty) to ``last``.

    ``added`` is how many were ever added, None where the server does not count (before Redis 7).
    """

    length: int
    first: EntryId | None
    last: EntryId
    added: int | None

    @property
    def trimmed(self) -> int | None:
        """How many entries were trimmed."""
        return None if self.added is None else self.added - self.length

    def is_beyond(self, entry_id: EntryId) -> bool:
        """Whether the entry with this id, and all before it, were trimmed."""
        return self.first is None or self.first > entry_id


def look_from_reply(reply: Sequence[Any]) -> Look:
    """Return the reply of the script ``events_look``."""
    length, first, last, added = reply
    return Look(
        int(length),
        id_from_text(first.decode()) if first else None,
        id_from_text(last.decode()),
        None if added < 0 else int(added),
    )


@dataclass(frozen=True, slots=True)
class Missed:
    """Entries that were trimmed before they were read; ``count`` is None when it is unknown."""

    count: int | None


class StreamPosition:
    """The last entry that was read: its id and, where the server counts, its number."""

    def __init__(self, entry_id: EntryId, number: int | None) -> None:
        """Begin behind the entry with this id, which was the ``number``-th of the stream."""
        self.id = entry_id
        self._number = number

    @classmethod
    def after(cls, last_id: str, look: Look) -> Self:
        """Begin behind ``last_id``; what was trimmed before the first entry is not missed."""
        if last_id == NEWEST:
            return cls(look.last, look.added)
        entry_id = id_from_text(last_id)
        return cls(entry_id, look.trimmed if entry_id == BEGINNING else None)

    def advance(self, entry_ids: Sequence[EntryId]) -> None:
        """Take note of entries that were read, in order."""
        if entry_ids:
            self.id = entry_ids[-1]
        if self._number is not None:
            self._number += len(entry_ids)

    def missed(self, look: Look) -> Missed | None:
        """Return how many entries after this position were trimmed; move behind them."""
        if self._is_of_another_stream(look):
            # It was deleted, or a replica without its newest entries became master.
            self._number = look.added if look.last < self.id else look.trimmed
            self.id = min(self.id, look.last)
            return Missed(None)
        if look.is_beyond(self.id):
            return self._missed_up_to(look.trimmed, is_behind=look.last > self.id)
        if look.last == self.id:
            return self._missed_up_to(look.added, is_behind=False)
        return None

    def _is_of_another_stream(self, look: Look) -> bool:
        if self._number is None or look.added is None:
            return look.last < self.id
        # An entry that is missing although it was not trimmed was in another stream.
        is_foreign = look.is_beyond(self.id) and look.added - look.length < self._number
        return look.last < self.id or look.added < self._number or is_foreign

    def _missed_up_to(self, number: int | None, *, is_behind: bool) -> Missed | None:
        """Return what was missed when all entries up to the ``number``-th are read or trimmed."""
        before, self._number = self._number, number
        if before is not None and number is not None:
            return Missed(number - before) if number > before else None
        return Missed(None) if is_behind and self.id != BEGINNING else None
