"""The mutating proxy's view of replies: what is not changed must arrive as it was."""

from __future__ import annotations

import random

from tests.fuzz.resp import Mutator, parsed

_REPLIES = b"+OK\r\n:-3\r\n$-1\r\n$2\r\na\n\r\n*2\r\n*0\r\n$0\r\n\r\n*-1\r\n-ERR no\r\n"


def test_replies_arrive_whole_in_any_chunks() -> None:
    """Nothing is lost at the seams, and nothing changed unless asked."""
    for size in range(1, len(_REPLIES) + 1):
        mutator = Mutator(random.Random(size), 0)
        chunks = [_REPLIES[i : i + size] for i in range(0, len(_REPLIES), size)]
        assert b"".join(map(mutator, chunks)) == _REPLIES


def test_changed_replies_are_replies() -> None:
    """A change is one that a server could have sent: what follows is still understood."""
    mutator = Mutator(random.Random(1), 1)
    raw, at = b"".join(mutator(_REPLIES) for _ in range(500)), 0
    while at < len(raw):
        _, at = parsed(raw, at)
    assert mutator.changed == 3500
