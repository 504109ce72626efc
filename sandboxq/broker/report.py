"""Writes what running jobs report: progress, log lines, changed data (bullmq-wire.md 3.17)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.batches import run_batches
from sandboxq.broker.script import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.connection import Broker
    from sandboxq.broker.keys import QueueKeys


class Report(NamedTuple):
    """Something that the run which holds ``token`` says of its job.

    ``kind`` is ``progress`` or ``data`` (payload: JSON text) or ``log`` (payload: one line).
    ``keep_logs`` is how many log lines stay; 0: all.
    """

    job_id: bytes
    token: bytes
    kind: str
    payload: bytes
    keep_logs: int = 0


async def report(broker: Broker, keys: QueueKeys, reports: Sequence[Report]) -> list[int]:
    """Write these reports in order; return one code for each.

    0; or -1: no such job, -2: it has no lock, -6: somebody else's lock, and nothing was written.
    """
    replies = await run_batches(broker, load("report"), keys, (), reports)
    return [code for reply in replies for code in reply]
