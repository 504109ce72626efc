"""Questions about a job's children, and what the answers mean: for queue and child alike."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sandboxq.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

# The states of a child as its parent sees them, in the order of everything below.
KINDS: Final = ("processed", "unprocessed", "ignored", "failed")

# ── questions; the numbers travel between child and coordinator ──
VALUES = 1
IGNORED = 2
FAILED = 3
COUNTS = 4
ALL = 5
PAGE = 6

# The place in each of KINDS where a page begins; one that is done has no number.
FIRST_PAGE = "0:0:0:0"
_DONE = "-"
# One page must not keep Redis from its other clients.
MOST_PER_PAGE = 10_000


class Dependencies(NamedTuple):
    """The children of a job, by their keys ``<prefix>:<queue>:<id>``.

    ``processed`` have completed (with their values), ``unprocessed`` have not ended, ``ignored``
    failed without failing the parent (with their reasons), ``failed`` failed with it. ``cursor``
    asks for the next page; None: there is none.
    """

    processed: dict[str, Any]
    unprocessed: list[str]
    ignored: dict[str, str]
    failed: list[str]
    cursor: str | None = None


class Page(NamedTuple):
    """Where a page begins in each kind, None where all was seen, and about how much of each."""

    starts: tuple[int | None, ...]
    size: int

    @classmethod
    def checked(cls, cursor: object, count: object) -> Page:
        """Return the page. Raises: UsageError for a cursor that none of our answers had."""
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_PER_PAGE:
            message = f"count must be an integer between 1 and {MOST_PER_PAGE}, not {count!r}"
            raise UsageError(message)
        parts = cursor.split(":") if isinstance(cursor, str) else []
        if len(parts) != len(KINDS) or not all(_is_place(part) for part in parts):
            message = f"cursor must be one that dependencies() returned, not {cursor!r}"
            raise UsageError(message)
        return cls(tuple(None if part == _DONE else int(part) for part in parts), count)


def _is_place(part: str) -> bool:
    # 64 bits are the longest number that Redis can mean.
    return part == _DONE or (part.isascii() and part.isdigit() and int(part) < 1 << 64)


# ── answers, from the replies of Redis ──────────────────────────────────────


def values_from(reply: Sequence[bytes]) -> dict[str, Any]:
    """Return values by child, from names and JSON in turn."""
    return {_text(key): _json(value) for key, value in _pairs(reply)}


def reasons_from(reply: Sequence[bytes]) -> dict[str, str]:
    """Return failed reasons by child, from names and reasons in turn."""
    return {_text(key): _text(value) for key, value in _pairs(reply)}


def keys_from(reply: Sequence[bytes]) -> list[str]:
    """Return names, each once."""
    return [_text(key) for key in dict.fromkeys(reply)]


def counts_from(replies: Sequence[int]) -> dict[str, int]:
    """Return how many children are of each kind."""
    return dict(zip(KINDS, map(int, replies), strict=True))


def all_from(replies: Sequence[Any]) -> Dependencies:
    """Return all children, from one reply for each of KINDS."""
    processed, unprocessed, ignored, failed = replies
    return Dependencies(
        values_from(processed), keys_from(unprocessed), reasons_from(ignored), keys_from(failed)
    )


def page_from(replies: Sequence[Any], page: Page) -> Dependencies:
    """Return one page, from a reply for each kind that was asked for: SCAN's, or a range."""
    left = iter(replies)
    *scans, rank = page.starts
    cursors: list[str] = []
    found: list[Any] = []
    for start in scans:
        cursor, items = (b"0", []) if start is None else next(left)
        cursors.append(_DONE if int(cursor) == 0 else str(int(cursor)))
        found.append(items)
    failed = [] if rank is None else next(left)
    cursors.append(_DONE if rank is None or len(failed) < page.size else str(rank + len(failed)))
    has_more = any(cursor != _DONE for cursor in cursors)
    return all_from([*found, failed])._replace(cursor=":".join(cursors) if has_more else None)


def _pairs(reply: Sequence[bytes]) -> zip[tuple[bytes, bytes]]:
    return zip(reply[::2], reply[1::2], strict=True)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _json(raw: bytes) -> Any:
    """Return the value; what is no JSON is given as its text, so that it hides no other."""
    try:
        return json.loads(raw.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return _text(raw)
