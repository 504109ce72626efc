"""The payloads of calls and failures."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandboxq.child.activity_page import (
    HELD,
    ActivityPage,
    open_mark,
    start_of_page,
)
from sandboxq.child.frames import (
    BlobPlace,
    decode_call,
    decode_calls,
    decode_failure,
    encode_blob,
    encode_call,
    encode_calls,
    encode_failure,
    encode_first_call,
    numbers_of,
)

_RAW = st.binary(max_size=50)
_COUNT = st.integers(0, 2**32 - 1)


@given(
    st.fixed_dictionaries(
        {
            "job_id": _RAW,
            "name": _RAW,
            "data": _RAW,
            "opts": _RAW,
            "timestamp": _RAW,
            "parent": _RAW,
            "progress": _RAW,
            "token": _RAW,
            "priority": _RAW,
            "delay": _RAW,
            "scheduler_id": _RAW,
            "deduplication_id": _RAW,
            "failed_reason": _RAW,
            "attempts_made": _COUNT,
            "attempts_started": _COUNT,
            "stalled_counter": _COUNT,
            "processed_on": st.integers(0, 2**63),
        }
    )
)
def test_call_goes_there_and_back(fields: dict[str, bytes | int]) -> None:
    """Fields that swap places would be worse than fields that are lost."""
    payload = encode_call(**fields)  # type: ignore[arg-type]
    assert decode_call(payload)._asdict() == {**fields, "blob": None}
    place = BlobPlace(4096, 7, b"table")
    assert decode_call(payload + encode_blob(place))._asdict() == {**fields, "blob": place}


@given(st.text(), st.text(), st.text())
def test_failure_goes_there_and_back(reason: str, stack: str, cause: str) -> None:
    """Also with lone surrogates, which UTF-8 cannot hold."""
    decoded = decode_failure(encode_failure(reason, stack, cause))
    expected = [
        text.encode("utf-8", "backslashreplace").decode() for text in (reason, stack, cause)
    ]
    assert list(decoded) == expected


@pytest.mark.parametrize("payloads", [[b""], [b"a", b"", b"ccc"], [bytes(1000)] * 32])
def test_calls_in_one_packet_come_out_as_they_went_in(payloads: list[bytes]) -> None:
    """Empty ones too; the coordinator tells their numbers from what it reads back."""
    packet = encode_calls(payloads)
    assert decode_calls(packet) == payloads
    assert numbers_of(7, packet) == range(7, 7 + len(payloads))


@pytest.mark.parametrize("word", [0, 1, 2**32, 2**64 - 1, 5 << 32 | 4000, 4 << 32 | 2**31])
def test_any_number_in_the_mark_reads_no_more_than_a_page(word: int) -> None:
    """The child writes it, and the coordinator reads memory by it."""
    fd = open_mark()
    mark = ActivityPage(fd)
    os.close(fd)
    mark.words[HELD] = word
    assert len(mark.read_held(mark.held())) <= 4096
    mark.hold(3, start_of_page(3) + 9)
    assert mark.read_held(mark.held()) == bytes(9)
    mark.close()


def test_a_first_call_is_the_same_payload() -> None:
    """The short way for most jobs must say what the long one says."""
    fields: dict[str, Any] = {
        "job_id": b"1",
        "name": b"n",
        "data": b"{}",
        "opts": b'{"attempts":3}',
        "timestamp": b"1795957200000",
        "token": b"t:1",
        "priority": b"0",
        "delay": b"0",
        "processed_on": 1_795_957_200_001,
    }
    assert encode_first_call(**fields) == encode_call(**fields)
