"""A cluster of six under a producer and a worker: a master dies, a slot moves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.cluster.drain import PREFIX, Drain
from tests.conftest import run_async

if TYPE_CHECKING:
    from tests.cluster.servers import Cluster

pytestmark = pytest.mark.slow

# Redis replicates behind the acknowledgement: what it has not passed on dies with the master.
MOST_LOST = 50
# Seconds: the servers notice after 1.5, elect, and are found with a back-off of up to 2.
LONGEST_PAUSE = 12.0


def test_a_master_dies_while_jobs_come_and_go(cluster: Cluster, queue_name: str) -> None:
    """A replica takes over within seconds; the worker lives, and each job ends once."""
    drain = Drain(cluster.url, queue_name)

    async def main() -> None:
        async with drain.going_on():
            await drain.until_added(300)
            await asyncio.to_thread(cluster.owner(PREFIX).kill)
            await drain.until_added(300)

    run_async(main())
    lost = set(drain.added) - drain.ended.keys()
    pause = f"nothing taken for {drain.longest_pause:.1f} s"
    print(len(drain.added), "added,", len(lost), "lost by replication,", pause)  # noqa: T201 - figures for whoever runs this
    assert set(drain.ended.values()) == {"completed"}
    assert len(lost) <= MOST_LOST
    assert drain.absences == (1, 1)
    assert drain.longest_pause < LONGEST_PAUSE


def test_a_slot_moves_while_jobs_come_and_go(cluster: Cluster, queue_name: str) -> None:
    """Scripts wait while half of the keys are elsewhere; nothing is lost, and nothing fails."""
    drain = Drain(cluster.url, queue_name)

    async def main() -> None:
        async with drain.going_on():
            for _ in range(2):
                await drain.until_added(200)
                to = cluster.other_master(cluster.owner(PREFIX))
                await asyncio.to_thread(cluster.begin_to_move, PREFIX, to=to)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(cluster.end_move, PREFIX, to=to)
            await drain.until_added(200)

    run_async(main())
    assert drain.ended == dict.fromkeys(drain.added, "completed")
    assert drain.refused == 0
