"""Signed calls: code that travels through a queue, from holders of a secret only.

    {"signed": "<HMAC-SHA256, hex>.<Python version>.<base64 of a pickle>"}

The signature covers prefix, queue and job id too, so that a call that was copied to another queue,
or to another id, is refused. A client that can write to Redis can still run the same job again.

The worker's coordinator verifies the raw bytes from Redis, without decoding them. If a child
verified, it would need the secret, and a job that is taken over (by a hostile image, for example)
could sign code for every other worker.
"""

from __future__ import annotations

import base64
import hmac
import os
import sys
from typing import NamedTuple

from sandboxq.errors import PayloadTooLarge, UsageError

# The processor that runs signed calls; a worker gives it nothing that was not verified.
PROCESSOR = "sandboxq.functions"
VARIABLE = "SANDBOXQ_SECRET"
# The child's side of the member's name.
MEMBER = "signed"
# Bytes of pickle. Verifying it holds up the coordinator's loop for about 4 ms.
PAYLOAD_LIMIT = 4 << 20
# Shorter ones can be guessed.
_SHORTEST_SECRET = 16
_MAC_LENGTH = 64
_HEAD = b'{"signed":"'
_TAIL = b'"}'
_TEXT_LIMIT = PAYLOAD_LIMIT * 4 // 3 + 256


class SignedPlace(NamedTuple):
    """Where a call may run: the queue with its prefix."""

    prefix: str
    queue: str


def checked_secret(secret: str | bytes | None) -> bytes:
    """Return the secret given, else that of $SANDBOXQ_SECRET. Raises: UsageError."""
    if secret is None:
        secret = os.environ.get(VARIABLE, "")
    given: object = secret
    if not isinstance(given, str | bytes):
        message = f"secret must be text or bytes, not {type(given).__name__}"
        raise UsageError(message)
    key = secret.encode() if isinstance(secret, str) else secret
    if len(key) < _SHORTEST_SECRET:
        what = "is missing" if not key else f"has {len(key)} bytes"
        message = (
            f"the secret that signs functions {what}: give secret= or ${VARIABLE}, "
            f"{_SHORTEST_SECRET} bytes or more, the same to executors and workers"
        )
        raise UsageError(message)
    return key


def signed_text(payload: bytes, key: bytes, place: SignedPlace, job_id: str) -> str:
    """Return the value of ``signed`` in the data of this job.

    Raises: PayloadTooLarge.
    """
    if len(payload) > PAYLOAD_LIMIT:
        message = (
            f"function and arguments have {len(payload)} bytes when pickled, the limit is "
            f"{PAYLOAD_LIMIT}: pass what is large through files, or as a job's arrays and bytes"
        )
        raise PayloadTooLarge(message)
    version = "{}_{}".format(*sys.version_info)
    body = f"{version}.".encode() + base64.b64encode(payload)
    return f"{_code(body, key, place, job_id.encode())}.{body.decode()}"


def is_signed(data: bytes, key: bytes, place: SignedPlace, job_id: bytes) -> bool:
    """Tell whether a job's raw data is a call that a holder of ``key`` made for this very job."""
    if len(data) > _TEXT_LIMIT or not (data.startswith(_HEAD) and data.endswith(_TAIL)):
        return False
    start = len(_HEAD) + _MAC_LENGTH
    if data[start : start + 1] != b".":
        return False
    wanted = _code(data[start + 1 : -len(_TAIL)], key, place, job_id)
    return hmac.compare_digest(wanted.encode(), data[len(_HEAD) : start])


def payload_in(text: str) -> bytes:
    """Return the pickle of a call that was verified.

    Raises: UsageError when another version of Python made it: code does not travel between them.
    """
    _, version, payload = text.split(".", 2)
    here = "{}_{}".format(*sys.version_info)
    if version != here:
        there, here = version.replace("_", "."), here.replace("_", ".")
        message = f"the function was sent by Python {there}, this child has {here}: use the same"
        raise UsageError(message)
    return base64.b64decode(payload)


def _code(body: bytes, key: bytes, place: SignedPlace, job_id: bytes) -> str:
    parts = [b"sandboxq.call.1", place.prefix.encode(), place.queue.encode(), job_id, body]
    # Lengths in front: the parts of one message are never those of another.
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.digest(key, framed, "sha256").hex()
