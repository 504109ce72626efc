"""The payloads of calls and failures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandboxq.child.frames import (
    BlobPlace,
    decode_call,
    decode_failure,
    encode_blob,
    encode_call,
    encode_failure,
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
            "attempts_made": _COUNT,
            "attempts_started": _COUNT,
            "stalled_counter": _COUNT,
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
