"""Messages between the coordinator and a child: a small header, then bytes as they are.

One message is one packet of a SOCK_SEQPACKET pair; a longer one is several packets of which all but
the last carry MORE. Calls of microseconds share a packet, and so do their answers. Nothing here is
JSON or pickle, so neither side can be made to run code by a message, and the coordinator never
decodes a job's data or result.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, NamedTuple

# kind, flags, detail, number (replies: run time of the job in microseconds; calls: which packet of
# the message this is, so that one that lost packets to take-back is never run), sequence number
HEADER = struct.Struct("<BBHIQ")
HEADER_SIZE = HEADER.size
# What a child sends has more in front: what its process has used until then, µs of CPU in its own
# code and in the kernel for it, and its peak of resident memory in bytes.
REPLY = struct.Struct("<BBHIQQQQ")
REPLY_SIZE = REPLY.size
# What stands before each value of an ANSWERS: its length, run time in microseconds, number.
ANSWER = struct.Struct("<IIQ")
ANSWER_SIZE = ANSWER.size
Usage = tuple[int, int, int]
NOT_MEASURED = (0, 0, 0)
# Three packets of this size fit the default socket buffer; larger ones are no faster.
PACKET_SIZE = 64 * 1024
CHUNK_SIZE = PACKET_SIZE - REPLY_SIZE
# The longest message, either way: Redis refuses values above 512 MB, and we hold messages whole.
MESSAGE_LIMIT = 256 << 20
MICROSECONDS_LIMIT = 0xFFFF_FFFF
# Half as many milliseconds as Lua counts exactly: see errors.LONGEST_SECONDS.
LONGEST_MS = 2**52

# ── kinds: coordinator to child ──
CALL = 1
RETIRE = 2
PING = 3  # to a child that seems stuck: it answers once it reads on
RESPONSE = 4  # by a socket of its own: in this one it would stand behind calls
STACKS_WANTED = 5  # beside RESPONSE, to an event loop
CALLS = 6  # several, numbered one after the other from that of the header

# ── kinds: child to coordinator ──
READY = 16
DONE = 17
FAILED = 18
PROGRESS = 19
LOG = 20
DATA = 21
LINE = 22
START_FAILED = 23
PONG = 24
MOVE = 25  # the job ends neither well nor badly: detail says where it goes
REQUEST = 26  # detail is a question of sandboxq.model.dependencies
STACKS = 27  # where a running job is; the last one, for the call 0, says that there are no more
RETURNED = 28  # of a CALLS: as many as detail says, from this number on, that were not begun
ANSWERS = 29  # several values, see ANSWER; the usage is that of all, the time theirs together
PROFILE = 31  # what was sampled of a running job: see child/profile_page.py
# a job has left what detail says (child/leftover_kinds.py): it is cleared, or the child leaves
LEFT = 30

# ── flags ──
MORE = 1  # the message goes on in the next packet
UNRECOVERABLE = 2  # a failure that no further attempt can mend
OUT_OF_MEMORY = 4  # a failure by MemoryError; the child leaves after it
TOO_LARGE = 8  # a failure by a message above MESSAGE_LIMIT
CANCEL_TOLD = 32  # the job's code was told that it is to end: what it returns is no result
HAS_BLOB = 64  # a DONE whose value refers to arrays and bytes in the arena
ENDS_CHILD = 128  # a failure of a job that goes on and cannot be ended; the child leaves after it
HAS_OUTPUT = 16  # the job left text in the pipes: read them before the outcome is told

# ── detail of READY ──
IS_ASYNC = 1

# ── detail of LINE ──
STREAMS = ("stdout", "stderr", "logging")
STDOUT, STDERR, LOGGING = range(3)

# Lines that a `def` processor prints go through the pipe of fd 1, each behind MARK, the numbers of
# its stream and its call, and TEXT: the kernel gathers them, the coordinator reads many at once.
MARK, TEXT = b"\x00", b"\x01"

# ── detail of MOVE ──
TO_DELAYED, TO_WAIT, TO_WAITING_CHILDREN, TO_RATE_LIMIT = range(4)

_CALL = struct.Struct("<13I3IQ")
_FIRST_CALL = struct.Struct("<5I8x3I16xI4xQ")  # the same, with nothing in the other places
_TEXTS = 13
# Where in the arena a blob begins, its length, and that of the table which follows.
_BLOB = struct.Struct("<QQI")
_COUNT = struct.Struct("<H")
_FAILURE = struct.Struct("<3I")
_MOVE = struct.Struct("<Q")
_REQUEST = struct.Struct("<I")
_PAGE = struct.Struct("<I")
_RESPONSE = struct.Struct("<I?")
_LEFT = struct.Struct("<Q")
_BYTES, _NUMBER, _LIST = b"$:*"
_SIZED = struct.Struct("<BI")
_COUNTED = struct.Struct("<Bq")


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
    scheduler_id: bytes
    deduplication_id: bytes
    failed_reason: bytes
    attempts_made: int
    attempts_started: int
    stalled_counter: int
    processed_on: int
    blob: BlobPlace | None = None


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
    scheduler_id: bytes = b"",
    deduplication_id: bytes = b"",
    failed_reason: bytes = b"",
    attempts_made: int = 0,
    attempts_started: int = 1,
    stalled_counter: int = 0,
    processed_on: int = 0,
) -> bytes:
    """Return the payload of a CALL."""
    # Spelled out: with stars and a map it takes half as long again.
    sizes = _CALL.pack(
        len(job_id), len(name), len(data), len(opts), len(timestamp), len(parent), len(progress),
        len(token), len(priority), len(delay), len(scheduler_id), len(deduplication_id),
        len(failed_reason), attempts_made, attempts_started, stalled_counter, processed_on,
    )  # fmt: skip
    texts = (
        job_id, name, data, opts, timestamp, parent, progress, token, priority, delay,
        scheduler_id, deduplication_id, failed_reason,
    )  # fmt: skip
    return sizes + b"".join(texts)


def encode_first_call(  # noqa: PLR0913, PLR0917 - as above
    job_id: bytes,
    name: bytes,
    data: bytes,
    opts: bytes,
    timestamp: bytes,
    token: bytes,
    priority: bytes,
    delay: bytes,
    processed_on: int,
) -> bytes:
    """Return the payload of a CALL for the first attempt of a job that has nothing else.

    Most jobs are such, and this takes half the steps of ``encode_call``.
    """
    sizes = _FIRST_CALL.pack(
        len(job_id), len(name), len(data), len(opts), len(timestamp),
        len(token), len(priority), len(delay), 1, processed_on,
    )  # fmt: skip
    return b"".join((sizes, job_id, name, data, opts, timestamp, token, priority, delay))


def decode_call(payload: bytes) -> CallFields:
    """Return what ``encode_call`` was given."""
    sizes = _CALL.unpack_from(payload)
    texts = _cut(payload, _CALL.size, sizes[:_TEXTS])
    return CallFields(*texts, *sizes[_TEXTS:], blob=blob_after_call(payload))  # type: ignore[arg-type, misc]  # bytes, then numbers


def encode_calls(payloads: list[bytes]) -> bytes:
    """Return the payload of a CALLS; ``payloads`` are those of its calls."""
    count = len(payloads)
    return b"".join((_sizes(count).pack(count, *map(len, payloads)), *payloads))


def decode_calls(payload: bytes) -> list[bytes]:
    """Return what ``encode_calls`` was given."""
    sizes = _sizes(*_COUNT.unpack_from(payload))
    return _cut(payload, sizes.size, sizes.unpack_from(payload)[1:])


def numbers_of(seq: int, payload: bytes | memoryview) -> range:
    """Return the numbers of the calls in a CALLS."""
    return range(seq, seq + _COUNT.unpack_from(payload)[0])


@cache
def _sizes(count: int) -> struct.Struct:
    return struct.Struct(f"<H{count}I")


BLOB_HEAD_SIZE = _BLOB.size


def table_size(head: memoryview) -> int:
    """Return the length of the table behind the head of a value's arrays and bytes."""
    return int(_BLOB.unpack_from(head)[2])


class BlobPlace(NamedTuple):
    """Where in the arena the arrays and bytes of a call or a value are, and the table of them."""

    offset: int
    size: int
    table: bytes


def encode_blob(place: BlobPlace) -> bytes:
    """Return what follows the payload of a CALL, or goes before the value in a DONE."""
    return _BLOB.pack(place.offset, place.size, len(place.table)) + place.table


def blob_after_call(payload: bytes) -> BlobPlace | None:
    """Return what stands behind the fields of a CALL."""
    sizes = _CALL.unpack_from(payload)
    start = _CALL.size + sum(sizes[:_TEXTS])
    return decode_blob(payload[start:])[0] if len(payload) > start else None


def decode_blob(payload: bytes) -> tuple[BlobPlace, bytes]:
    """Return what ``encode_blob`` was given, and what comes behind it."""
    offset, size, length = _BLOB.unpack_from(payload)
    end = _BLOB.size + length
    return BlobPlace(offset, size, payload[_BLOB.size : end]), payload[end:]


def encode_failure(reason: str, stack: str, cause: str) -> bytes:
    """Return the payload of a FAILED: why, the text of the trace, the name of the error's class."""
    parts = [text.encode("utf-8", "backslashreplace") for text in (reason, stack, cause)]
    return b"".join((_FAILURE.pack(*map(len, parts)), *parts))


def decode_failure(payload: bytes) -> tuple[str, str, str]:
    """Return reason, stack and cause; whatever the bytes are, it is text."""
    lengths = _FAILURE.unpack_from(payload)
    reason, stack, cause = _cut(payload, _FAILURE.size, lengths)
    return _text(reason), _text(stack), _text(cause)


def encode_move(duration_ms: int) -> bytes:
    """Return the payload of a MOVE: for how long, where that means something."""
    return _MOVE.pack(duration_ms)


def decode_move(payload: bytes) -> int:
    """Return what ``encode_move`` was given; never more than Redis can count with."""
    return min(int(_MOVE.unpack(payload)[0]), LONGEST_MS)


def encode_request(number: int, argument: bytes) -> bytes:
    """Return the payload of a REQUEST: the child's number for it, and what belongs to it."""
    return _REQUEST.pack(number) + argument


def decode_request(payload: bytes) -> tuple[int, bytes]:
    """Return what ``encode_request`` was given."""
    return _REQUEST.unpack_from(payload)[0], payload[_REQUEST.size :]


def encode_left(count: int) -> bytes:
    """Return the payload of a LEFT: how many, or how many bytes."""
    return _LEFT.pack(count)


def decode_left(payload: bytes) -> int:
    """Return what ``encode_left`` was given."""
    return int.from_bytes(payload, "little")


def encode_page(cursor: str, size: int) -> bytes:
    """Return what belongs to the question PAGE."""
    return _PAGE.pack(size) + cursor.encode()


def decode_page(argument: bytes) -> tuple[str, int]:
    """Return what ``encode_page`` was given."""
    return _text(argument[_PAGE.size :]), _PAGE.unpack_from(argument)[0]


def encode_response(number: int, replies: Any) -> bytes:
    """Return the payload of a RESPONSE; ``replies`` are those of Redis: bytes, numbers, lists."""
    parts = [_RESPONSE.pack(number, False)]  # noqa: FBT003 - no refusal
    _encode_reply(replies, parts)
    return b"".join(parts)


def encode_refusal(number: int, reason: str) -> bytes:
    """Return the payload of a RESPONSE that says why there is no answer."""
    return _RESPONSE.pack(number, True) + reason.encode("utf-8", "backslashreplace")  # noqa: FBT003 - a refusal


def response_number(payload: bytes) -> int:
    """Return which request of the child a RESPONSE is for."""
    return int(_RESPONSE.unpack_from(payload)[0])


def decode_response(payload: bytes) -> tuple[Any, str | None]:
    """Return the replies, or why there are none."""
    _, is_refusal = _RESPONSE.unpack_from(payload)
    if is_refusal:
        return None, _text(payload[_RESPONSE.size :])
    return _decode_reply(payload, _RESPONSE.size)[0], None


def _encode_reply(reply: Any, parts: list[bytes]) -> None:
    if isinstance(reply, bytes):
        parts += (_SIZED.pack(_BYTES, len(reply)), reply)
    elif isinstance(reply, int):
        parts.append(_COUNTED.pack(_NUMBER, reply))
    else:
        parts.append(_SIZED.pack(_LIST, len(reply)))
        for item in reply:
            _encode_reply(item, parts)


def _decode_reply(payload: bytes, start: int) -> tuple[Any, int]:
    """Return the reply that begins at ``start``, and where it ends."""
    if payload[start] == _NUMBER:
        return _COUNTED.unpack_from(payload, start)[1], start + _COUNTED.size
    kind, size = _SIZED.unpack_from(payload, start)
    start += _SIZED.size
    if kind == _BYTES:
        return payload[start : start + size], start + size
    items = []
    for _ in range(size):
        item, start = _decode_reply(payload, start)
        items.append(item)
    return items, start


def _cut(payload: bytes, start: int, lengths: tuple[int, ...]) -> list[bytes]:
    parts = []
    for length in lengths:
        end = start + length
        parts.append(payload[start:end])
        start = end
    return parts


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
