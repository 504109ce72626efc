"""Messages between the coordinator and a child: a 16-byte header, then bytes as they are.

One message is one packet of a SOCK_SEQPACKET pair; a longer one is several packets of which all but
the last carry MORE. Nothing here is JSON or pickle, so neither side can be made to run code by a
message, and the coordinator never decodes a job's data or result.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

# kind, flags, detail, number (replies: run time of the job in microseconds; calls: which packet of
# the message this is, so that one that lost packets to take-back is never run), sequence number
HEADER = struct.Struct("<BBHIQ")
HEADER_SIZE = HEADER.size
# Three packets of this size fit the default socket buffer; larger ones are no faster.
PACKET_SIZE = 64 * 1024
CHUNK_SIZE = PACKET_SIZE - HEADER_SIZE
# The longest message, either way: Redis refuses values above 512 MB, and we hold messages whole.
MESSAGE_LIMIT = 256 << 20
MICROSECONDS_LIMIT = 0xFFFF_FFFF

# ── kinds: coordinator to child ──
CALL = 1
RETIRE = 2

# ── kinds: child to coordinator ──
READY = 16
DONE = 17
FAILED = 18
PROGRESS = 19
LOG = 20
DATA = 21
LINE = 22
START_FAILED = 23

# ── flags ──
MORE = 1  # the message goes on in the next packet
UNRECOVERABLE = 2  # a failure that no further attempt can mend
OUT_OF_MEMORY = 4  # a failure by MemoryError; the child leaves after it
TOO_LARGE = 8  # a failure by a message above MESSAGE_LIMIT
HAS_OUTPUT = 16  # the job left text in the pipes: read them before the outcome is told

# ── detail of LINE ──
STREAMS = ("stdout", "stderr", "logging")
STDOUT, STDERR, LOGGING = range(3)

_CALL = struct.Struct("<10I3I")
_FAILURE = struct.Struct("<3I")


class CallFields(NamedTuple):
    """A job as it is sent to a child; bytes exactly as they stand in Redis."""

    job_id: bytes
    name: bytes
    data: bytes
    opts: bytes
    timestamp: bytes
    parent: bytes
    progress: bytes
    token: bytes
    priority: bytes
    delay: bytes
    attempts_made: int
    attempts_started: int
    stalled_counter: int


def encode_call(  # noqa: PLR0913 - the fields of a job; an object in between costs 5 % of the hot path
    *,
    job_id: bytes,
    name: bytes,
    data: bytes,
    opts: bytes = b"",
    timestamp: bytes = b"",
    parent: bytes = b"",
    progress: bytes = b"",
    token: bytes = b"",
    priority: bytes = b"",
    delay: bytes = b"",
    attempts_made: int = 0,
    attempts_started: int = 1,
    stalled_counter: int = 0,
) -> bytes:
    """Return the payload of a CALL."""
    lengths = _CALL.pack(
        len(job_id),
        len(name),
        len(data),
        len(opts),
        len(timestamp),
        len(parent),
        len(progress),
        len(token),
        len(priority),
        len(delay),
        attempts_made,
        attempts_started,
        stalled_counter,
    )
    return b"".join(
        (lengths, job_id, name, data, opts, timestamp, parent, progress, token, priority, delay)
    )


def decode_call(payload: bytes) -> CallFields:
    """Return what ``encode_call`` was given."""
    sizes = _CALL.unpack_from(payload)
    return CallFields(*_cut(payload, _CALL.size, sizes[:10]), *sizes[10:])  # type: ignore[arg-type]  # bytes, then numbers


def encode_failure(reason: str, stack: str, cause: str) -> bytes:
    """Return the payload of a FAILED: why, the text of the trace, the name of the error's class."""
    parts = [text.encode("utf-8", "backslashreplace") for text in (reason, stack, cause)]
    return b"".join((_FAILURE.pack(*map(len, parts)), *parts))


def decode_failure(payload: bytes) -> tuple[str, str, str]:
    """Return reason, stack and cause; whatever the bytes are, it is text."""
    lengths = _FAILURE.unpack_from(payload)
    reason, stack, cause = _cut(payload, _FAILURE.size, lengths)
    return _text(reason), _text(stack), _text(cause)


def _cut(payload: bytes, start: int, lengths: tuple[int, ...]) -> list[bytes]:
    parts = []
    for length in lengths:
        end = start + length
        parts.append(payload[start:end])
        start = end
    return parts


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
