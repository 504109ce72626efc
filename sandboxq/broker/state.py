"""Tells where jobs are and how they ended (bullmq-wire.md 3.24)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.script import load
from sandboxq.job import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys

# Redis answers nobody else during a script call.
_IDS_PER_CALL = 100


class Ending(NamedTuple):
    """How a job stands: ``state`` is completed, failed or None; ``exists`` tells if it is there.

    ``text`` is the return value as JSON or the failed reason; ``cause`` names the error's class;
    ``binary`` is where the value's arrays and bytes are, see binary.py.
    """

    exists: bool
    state: JobState | None = None
    text: bytes = b""
    cause: str = ""
    binary: bytes = b""


async def state_of(broker: Broker, keys: QueueKeys, job_id: str) -> JobState:
    """Return the state that holds the job, UNKNOWN when there is none."""
    states = await broker.script(load("states"), [keys.base], [job_id])
    return JobState(states[0].decode())


async def endings_of(broker: Broker, keys: QueueKeys, job_ids: Sequence[str]) -> list[Ending]:
    """Return how each job stands."""
    endings: list[Ending] = []
    for first in range(0, len(job_ids), _IDS_PER_CALL):
        ids = job_ids[first : first + _IDS_PER_CALL]
        replies = await broker.script(load("finished"), [keys.base], ids)
        endings += [_ending(*reply) for reply in replies]
    return endings


def _ending(code: int, text: bytes = b"", cause: bytes = b"", binary: bytes = b"") -> Ending:
    states = {1: JobState.COMPLETED, 2: JobState.FAILED}
    return Ending(code != -1, states.get(code), text, cause.decode(errors="replace"), binary)
