"""How an attempt ended, from what its child answered; a value needs no more than its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandboxq.child import frames
from sandboxq.child.frames import (
    OUT_OF_MEMORY,
    UNRECOVERABLE,
    decode_blob,
    decode_failure,
    decode_move,
)
from sandboxq.model.outcome import (
    ChildrenAwaited,
    Completed,
    Failed,
    HandedBack,
    Postponed,
    RateLimited,
)
from sandboxq.pool.breach import Breach

if TYPE_CHECKING:
    from sandboxq.model.outcome import Outcome
    from sandboxq.pool.transport.arena import Arena, ResultBlob


@dataclass(slots=True)
class Unstored(Completed):
    """A value whose arrays and bytes are still in the arena of the child that returned it."""

    blob: ResultBlob | None = None
    table: str = ""


def completed_from_frame(payload: bytes, arena: Arena, *, most: int) -> Unstored | None:
    """Return the value in a DONE with HAS_BLOB; None when it is larger than ``most`` bytes.

    Raises: struct.error when it is no such frame, Breach when the value cannot be there.
    """
    place, value = decode_blob(payload)
    if place.size > most:
        return None
    blob = arena.result(place.offset, place.size)
    if blob is None:
        message = "told of a value beyond the memory for values"
        raise Breach(message)
    return Unstored(value, blob=blob, table=place.table.decode("utf-8", "replace"))


def failure_from_frame(
    payload: bytes, flags: int, *, pid: int, memory: int | None, peak: int
) -> Failed:
    """Return the failure in a FAILED of a child with this grant and this peak of memory."""
    reason, stack, cause = decode_failure(payload)
    facts = None
    if flags & OUT_OF_MEMORY:
        facts = {"pid": str(pid), "limit": str(memory), "peak": str(peak)}
    is_final = bool(flags & UNRECOVERABLE)
    is_crash = bool(flags & OUT_OF_MEMORY)  # its child leaves after it
    return Failed(reason, stack, cause, is_unrecoverable=is_final, facts=facts, is_crash=is_crash)


def move_from_frame(payload: bytes, detail: int) -> Outcome:
    """Return where the job goes by a MOVE."""
    duration_ms = decode_move(payload)
    match detail:
        case frames.TO_DELAYED:
            return Postponed(duration_ms)
        case frames.TO_WAITING_CHILDREN:
            return ChildrenAwaited()
        case frames.TO_RATE_LIMIT:
            return RateLimited(duration_ms)
        case _:
            return HandedBack(was_started=True)
