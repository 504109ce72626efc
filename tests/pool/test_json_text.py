"""JSON that is looked at piece by piece is judged as a parser judges it whole."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxq.pool.breach import JsonText, NotJson, check_json

if TYPE_CHECKING:
    import random

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda items: st.lists(items, max_size=5)
    | st.dictionaries(st.text(max_size=5), items, max_size=5),
    max_leaves=30,
)  # fmt: skip


def is_json(raw: bytes, size: int) -> bool:
    """Tell what is made of ``raw`` in pieces of ``size`` bytes."""
    text = JsonText()
    try:
        for start in range(0, len(raw), size):
            text.feed(raw[start : start + size])
        text.end()
    except NotJson:
        return False
    return True


def parses(raw: bytes) -> bool:
    """Tell what the standard library makes of it, without what it takes beyond JSON."""
    try:
        json.loads(raw.decode(), parse_constant=_refuse)
    except ValueError:
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(name)


@given(_values, st.integers(1, 40), st.booleans(), st.sampled_from([None, 1]))
def test_what_was_written_as_json_is_json(
    value: object,
    size: int,
    is_ascii: bool,  # noqa: FBT001 - drawn
    indent: int | None,
) -> None:
    """However it is cut."""
    raw = json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode("utf-8", "surrogatepass")
    assert is_json(raw, size) == parses(raw)
    try:
        check_json(raw)
    except NotJson:
        assert not parses(raw)


@given(_values, st.integers(1, 40), st.randoms(use_true_random=False))
def test_what_was_damaged_is_judged_as_a_parser_does(
    value: object, size: int, rng: random.Random
) -> None:
    """A byte is changed, put in or taken out."""
    raw = bytearray(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(raw) + 1)
        raw[at : at + rng.randint(0, 1)] = rng.choice(
            [b"", *(bytes([b]) for b in b'[]{},:"\\u0e-.1 tn\x00\xff')]
        )
    assert is_json(bytes(raw), size) == parses(bytes(raw)), bytes(raw)


@pytest.mark.parametrize(
    "raw", [b"[" * 100_000 + b"]" * 100_000, b"9" * 10_000, b"", b"[1,]", b"{,}", b"1 2", b"NaN",
            b"\xff\xfe1\x00", b"\xef\xbb\xbf1", b'"\\ud8', b"-", b"[1}", b"tru", b'{"a" 1}'],
)  # fmt: skip
def test_what_is_no_json_is_refused_whole_and_in_pieces(raw: bytes) -> None:
    """Nesting and numbers that no Python child writes are among them."""
    assert not is_json(raw, 7)
    assert not is_json(raw, 1 << 20)
    with pytest.raises(NotJson):
        check_json(raw)


def test_what_is_nested_deeper_than_a_stack_is_json() -> None:
    """The child's stack was perhaps a little less full than ours."""
    check_json(b"[" * 1500 + b"]" * 1500)


def test_a_scalar_before_a_string_that_is_cut_is_none_of_it() -> None:
    """The cut stands in the string; what is before it was wrong already."""
    assert not is_json(b'[1"abc"]', 5)


@pytest.mark.parametrize(
    "piece", [b'{"a":1,"b":"text"},', b"1.5,", b'"' + b"x" * 1000 + b'",', b'[[[1,{"a":[2]}]]],']
)
def test_a_packet_is_looked_at_in_milliseconds(piece: bytes) -> None:
    """Whatever it holds: the loop does nothing else meanwhile."""
    text = JsonText()
    text.feed(b"[")
    packet = piece * (64_000 // len(piece))
    before = time.thread_time()
    for _ in range(16):
        text.feed(packet)
    assert (time.thread_time() - before) / 16 < 0.05
