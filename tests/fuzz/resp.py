"""Replies of Redis (RESP 2) taken apart, changed somewhere, and put together again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fuzz.values import nasty_bytes

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

_EOL = b"\r\n"


@dataclass(slots=True)
class Reply:
    """One value: ``kind`` is its first byte; a line, a bulk string (or None), or a list."""

    kind: bytes
    value: bytes | list[Reply] | None

    def encoded(self) -> bytes:
        """Return it as it goes over the wire."""
        if self.value is None:
            return self.kind + b"-1" + _EOL
        if isinstance(self.value, list):
            head = self.kind + b"%d" % len(self.value) + _EOL
            return head + b"".join(each.encoded() for each in self.value)
        if self.kind == b"$":
            return b"$%d" % len(self.value) + _EOL + self.value + _EOL
        return self.kind + self.value + _EOL

    def all(self) -> Iterator[Reply]:
        """Return this and everything in it."""
        yield self
        if isinstance(self.value, list):
            for each in self.value:
                yield from each.all()


class Incomplete(Exception):
    """The rest has not come yet."""


def parsed(raw: bytes, at: int = 0) -> tuple[Reply, int]:
    """Return the reply that begins at ``at``, and where it ends. Raises: Incomplete."""
    end = raw.find(_EOL, at)
    if end < 0:
        raise Incomplete
    kind, line, past = raw[at : at + 1], raw[at + 1 : end], end + 2
    if kind not in b"$*" or line == b"-1":
        return Reply(kind, None if kind in b"$*" else line), past
    if kind == b"$":
        last = past + int(line)
        if len(raw) < last + 2:
            raise Incomplete
        return Reply(kind, raw[past:last]), last + 2
    rows = []
    for _ in range(int(line)):
        row, past = parsed(raw, past)
        rows.append(row)
    return Reply(kind, rows), past


class Mutator:
    """Of one connection: whole replies go on, now and then with something else in them."""

    def __init__(self, rng: random.Random, share: float) -> None:
        """Change this share of the replies."""
        self._rng = rng
        self.share = share
        self._rest = b""
        self.changed = 0

    def __call__(self, chunk: bytes) -> bytes:
        """Return what is complete, the rest later."""
        raw, at = self._rest + chunk, 0
        out = []
        try:
            while at < len(raw):
                reply, past = parsed(raw, at)
                out.append(raw[at:past] if self._rng.random() > self.share else self._other(reply))
                at = past
        except Incomplete:
            pass
        self._rest = raw[at:]
        return b"".join(out)

    def _other(self, reply: Reply) -> bytes:
        self.changed += 1
        victim = self._rng.choice(list(reply.all()))
        self._change(victim)
        return reply.encoded()

    def _change(self, victim: Reply) -> None:
        rng = self._rng
        if isinstance(victim.value, list) and rng.random() < 0.5:
            self._change_list(victim.value)
            return
        kind = rng.choice([b"$", b":", b"*", b"+", b"-", victim.kind])
        if kind == b":":
            victim.value = rng.choice([b"0", b"-1", b"-3", b"1", str(2**63 - 1).encode()])
        elif kind == b"*":
            victim.value = rng.choice([None, [], [Reply(b"$", None)], [Reply(b":", b"7")]])
        elif kind == b"$":
            victim.value = rng.choice([None, nasty_bytes(rng)])
        elif kind == b"-":
            victim.value = rng.choice([b"ERR no", b"BUSY now", b"MOVED 1 x:1", b"WRONGTYPE it is"])
        else:
            victim.value = b"what"
        victim.kind = kind

    def _change_list(self, rows: list[Reply]) -> None:
        rng = self._rng
        if rows and rng.random() < 0.5:
            rows.pop(rng.randrange(len(rows)))
        else:
            rows.insert(rng.randint(0, len(rows)), Reply(b"$", nasty_bytes(rng)))
