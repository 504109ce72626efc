"""How much there is to do in a queue: for metrics, and for what scales workers.

The age of the oldest job is that of the oldest of few: both ends of what waits, and of priorities
the next one and the first of the lowest. Others may be older only among jobs that were put back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sandboxq.broker.commands.jobs import counts_of
from sandboxq.model.validation import count_from_wire, whole_from_wire

if TYPE_CHECKING:
    from sandboxq.broker.connect.broker import Broker
    from sandboxq.broker.keys import QueueKeys

_PER_PRIORITY = 2**32  # scores of one priority (protocol.md 1.2)


class QueueLoad(NamedTuple):
    """Counts by state, finished jobs since metrics were on, and the seconds that the oldest waits.

    ``oldest`` is without the job's delay, 0 when none waits.
    """

    counts: dict[str, int]
    totals: dict[str, int]
    oldest: float

    @property
    def waiting(self) -> int:
        """How many jobs could be claimed."""
        return self.counts["waiting"] + self.counts["prioritized"]

    @property
    def active(self) -> int:
        """How many jobs workers have."""
        return self.counts["active"]


async def load_of(broker: Broker, keys: QueueKeys) -> QueueLoad:
    """Return the load of a queue, in three round trips or four.

    Raises: BrokerUnavailable, QueueError.
    """
    counts = await counts_of(broker, keys)
    completed, failed, *ends = await broker.pipeline(
        [
            ("HGET", keys["metrics:completed"], "count"),
            ("HGET", keys["metrics:failed"], "count"),
            *(("LINDEX", keys[name], end) for name in ("wait", "paused") for end in (0, -1)),
            ("ZRANGE", keys["prioritized"], 0, 0),
            ("ZRANGE", keys["prioritized"], -1, -1, "WITHSCORES"),
        ]
    )
    *ids, first, last = ends
    ids += first
    if last:
        lowest = (whole_from_wire(last[1]) or 0) // _PER_PRIORITY * _PER_PRIORITY
        ids += await broker.command(
            "ZRANGEBYSCORE", keys["prioritized"], lowest, "+inf", "LIMIT", 0, 1
        )
    totals = {"completed": count_from_wire(completed), "failed": count_from_wire(failed)}
    return QueueLoad(counts, totals, await _oldest(broker, keys, {each for each in ids if each}))


async def _oldest(broker: Broker, keys: QueueKeys, ids: set[bytes]) -> float:
    rows = await broker.pipeline(
        [("HMGET", keys.base.encode() + each, "timestamp", "delay") for each in ids]
    )
    due = [
        since + (whole_from_wire(delay) or 0)
        for timestamp, delay in rows
        if (since := count_from_wire(timestamp))
    ]
    return max(0.0, (await broker.now_ms() - min(due)) / 1000) if due else 0.0
