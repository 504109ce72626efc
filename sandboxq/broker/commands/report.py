"""Writes what running jobs report: progress, log lines, changed data (protocol.md 3.17)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from redis.exceptions import ResponseError

from sandboxq.broker.commands.batches import BATCH, NO_MARK, marked, run_rows
from sandboxq.broker.connect.connection import error_from_reply
from sandboxq.broker.connect.script import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandboxq.broker.commands.batches import Mark
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys
    from sandboxq.errors import QueueError


class Report(NamedTuple):
    """Something that the run which holds ``token`` says of its job.

    ``kind`` is ``progress`` or ``data`` (payload: JSON text), ``log`` (payload: one row of
    the log) or ``lines`` (payload: several, with newlines between them).
    ``keep_logs`` is how many log lines stay; 0: all.
    """

    job_id: bytes
    token: bytes
    kind: str
    payload: bytes
    keep_logs: int = 0


async def report(
    broker: Broker, keys: QueueKeys, reports: Sequence[Report], *, mark: Mark = NO_MARK
) -> list[int | QueueError]:
    """Write these reports in order; return one code for each.

    0; or -1: no such job, -2: it has no lock, -6: somebody else's lock, and nothing was written; or
    why Redis could not write this one.
    """
    codes = await run_rows(broker, load("report"), keys, (), reports, mark=mark)
    return [
        code
        if isinstance(code, int)
        else error_from_reply(ResponseError(code.decode(errors="replace")))
        for code in codes
    ]


async def reported(broker: Broker, mark: Mark, reports: Sequence[Report]) -> list[bool]:
    """Tell which of these were dealt with by a ``report`` with this mark whose reply was lost.

    Raises: BrokerUnavailable.
    """
    calls = await marked(broker, mark)
    return [place // BATCH in calls for place in range(len(reports))]
