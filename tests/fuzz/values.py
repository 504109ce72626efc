"""Values that a field of Redis can hold, and that nobody expects there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

_NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 7, 0.5, -0.0, 1e300, -1e300, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**400),
)
_TEXTS = (
    *("", " ", "abc", "-1", "0", "1", "1e400", "NaN", "Infinity", "-Infinity", "0x10", "1_000"),
    *(
        "9" * 400,
        "\u0000",
        "\ud7ff",
        "größer 🙂",
        "\r\n",
        "null",
        "true",
        "{}",
        "[]",
        "[1",
        '{"a":',
    ),
    *("\x1b[31mred", "a:b", "0:1", "../..", "%s%n", "x" * 5000, "٣", "1\n2"),
)
_BYTES = (b"\xff", b"\xff\xfe\x00", b"\xed\xa0\x80", b"\x80" * 300, b"\x00")
_DEEP = b"[" * 20_000


def nasty_bytes(rng: random.Random) -> bytes:
    """Return raw text for a field or an id."""
    roll = rng.random()
    if roll < 0.2:
        return rng.choice(_BYTES)
    if roll < 0.22:
        return _DEEP
    if roll < 0.6:
        return rng.choice(_TEXTS).encode()
    return json.dumps(nasty_value(rng)).encode()


def nasty_value(rng: random.Random, depth: int = 2) -> Any:
    """Return any JSON value, some of which Python writes and JSON forbids."""
    roll = rng.random()
    if depth and roll < 0.15:
        return {rng.choice(_TEXTS): nasty_value(rng, depth - 1) for _ in range(rng.randint(0, 3))}
    if depth and roll < 0.3:
        return [nasty_value(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    if roll < 0.65:
        return rng.choice(_NUMBERS)
    if roll < 0.9:
        return rng.choice(_TEXTS)
    return rng.choice([None, True, False, float("nan"), float("inf")])
