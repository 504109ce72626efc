"""The payloads of questions and their answers: what Redis replied arrives as it was."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandboxq.child.frames import (
    decode_page,
    decode_request,
    decode_response,
    encode_page,
    encode_refusal,
    encode_request,
    encode_response,
    response_number,
)

_NUMBER = st.integers(0, 2**32 - 1)
_REPLIES: st.SearchStrategy[Any] = st.recursive(
    st.binary(max_size=20) | st.integers(-(2**63), 2**63 - 1), st.lists, max_leaves=20
)


@given(_NUMBER, _REPLIES)
def test_replies_survive(number: int, replies: Any) -> None:
    """HSCAN's are nested; counters are numbers; nothing may be read as something else."""
    payload = encode_response(number, replies)

    assert response_number(payload) == number
    assert decode_response(payload) == (replies, None)


@given(_NUMBER, st.text(max_size=50))
def test_refusals_survive(number: int, reason: str) -> None:
    """Any text may be in an error of Redis."""
    payload = encode_refusal(number, reason)

    assert response_number(payload) == number
    assert decode_response(payload)[0] is None
    if reason.isprintable():
        assert decode_response(payload)[1] == reason


@given(_NUMBER, st.binary(max_size=50), st.integers(1, 10_000))
def test_requests_survive(number: int, argument: bytes, size: int) -> None:
    """A page is asked for by its cursor and size."""
    assert decode_request(encode_request(number, argument)) == (number, argument)
    assert decode_page(encode_page("0:1:-:7", size)) == ("0:1:-:7", size)
