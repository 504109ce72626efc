"""How much there is to do in a queue: for metrics, and for what scales workers.

The age of the oldest job is that of the oldest of few: both ends of what waits, and of priorities
the next one and the first of the lowest. Others may be older only among jobs that were put back.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.commands.jobs import counts_of
from sandboxq.model.validation import count_from_wire, whole_from_wire

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

_PER_PRIORITY = 2**32  # scores of one priority (protocol.md 1.2)
_PER_MS = 4096  # scores of delayed jobs that are due in one millisecond


class QueueLoad(NamedTuple):
    """Counts by state, finished jobs since metrics were on, and the seconds that the oldest waits.

    ``oldest`` is without the job's delay, 0 when none waits. ``due`` are delayed jobs whose time
    has come: a worker that looks moves them; where there is none they call for one.
    """

    counts: dict[str, int]
    totals: dict[str, int]
    oldest: float
    due: int = 0

    @property
    def waiting(self) -> int:
        """How many jobs could be claimed."""
        return self.counts["waiting"] + self.counts["prioritized"] + self.due

    @property
    def delayed(self) -> int:
        """How many jobs wait for their time."""
        return max(0, self.counts["delayed"] - self.due)

    @property
    def active(self) -> int:
        """How many jobs workers have."""
        return self.counts["active"]


async def load_of(broker: Broker, keys: QueueKeys) -> QueueLoad:
    """Return the load of a queue, in three round trips or four.

    Raises: BrokerUnavailable, QueueError.
    """
    counts = await counts_of(broker, keys)
    now = await broker.now_ms()
    completed, failed, due, *ends = await broker.pipeline(
        [
            ("HGET", keys["metrics:completed"], "count"),
            ("HGET", keys["metrics:failed"], "count"),
            ("ZCOUNT", keys["delayed"], "-inf", (now + 1) * _PER_MS - 1),
            *(("LINDEX", keys[name], end) for name in ("wait", "paused") for end in (0, -1)),
            ("ZRANGE", keys["delayed"], 0, 0, "WITHSCORES"),
            ("ZRANGE", keys["prioritized"], 0, 0),
            ("ZRANGE", keys["prioritized"], -1, -1, "WITHSCORES"),
        ]
    )
    *ids, next_one, first, last = ends
    ids += first
    if last:
        lowest = (whole_from_wire(last[1]) or 0) // _PER_PRIORITY * _PER_PRIORITY
        ids += await broker.command(
            "ZRANGEBYSCORE", keys["prioritized"], lowest, "+inf", "LIMIT", 0, 1
        )
    totals = {"completed": count_from_wire(completed), "failed": count_from_wire(failed)}
    since = await _oldest(broker, keys, {each for each in ids if each})
    if due and (score := count_from_wire(next_one[1])):
        since = min(since, score / _PER_MS)
    oldest = max(0.0, (now - since) / 1000) if since < inf else 0.0
    return QueueLoad(counts, totals, oldest, due)


async def _oldest(broker: Broker, keys: QueueKeys, ids: set[bytes]) -> float:
    """Return when the oldest of these could have begun, in milliseconds; of none ``inf``."""
    rows = await broker.pipeline(
        [("HMGET", keys.base.encode() + each, "timestamp", "delay") for each in ids]
    )
    begins = (
        since + (whole_from_wire(delay) or 0)
        for timestamp, delay in rows
        if (since := count_from_wire(timestamp))
    )
    return min(begins, default=inf)
