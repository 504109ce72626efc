"""A worker that waits inside a node of a cluster, when that node stops having its queue."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from sandboxq import Queue
from tests.cluster.drain import PREFIX, add_until_taken, idle_worker
from tests.conftest import run_async, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.servers import Cluster

pytestmark = pytest.mark.slow

# Seconds from the end of the trouble to the first job's end; a node looks at blocked clients each
# second, and back-off after a dead master goes up to two.
SOON = 8.0


def _kill(cluster: Cluster) -> None:
    old = cluster.owner(PREFIX)
    old.kill()
    cluster.owner(PREFIX)


def _demote(cluster: Cluster) -> None:
    old = cluster.owner(PREFIX)
    cluster.replica_of(old).ask("CLUSTER", "FAILOVER")
    wait_until(lambda: not old.is_master)


def _move(cluster: Cluster) -> None:
    to = cluster.other_master(cluster.owner(PREFIX))
    cluster.begin_to_move(PREFIX, to=to)
    time.sleep(0.5)
    cluster.end_move(PREFIX, to=to)


@pytest.mark.parametrize("trouble", [_kill, _demote, _move])
def test_a_waiting_worker_follows(
    cluster: Cluster, queue_name: str, trouble: Callable[[Cluster], None]
) -> None:
    """Its claim sleeps inside a node that dies, becomes a replica, or gives the slot away."""

    async def main() -> float:
        async with (
            Queue(queue_name, url=cluster.url, prefix=PREFIX) as queue,
            idle_worker(cluster.url, queue_name, queue),
        ):
            await asyncio.to_thread(trouble, cluster)
            started = time.monotonic()
            for number in range(20):
                job = await add_until_taken(queue, number)
                assert await job.result(60) == number
            return time.monotonic() - started

    took = run_async(main())
    print(f"{took:.1f} s until 20 jobs had run, one after the other")  # noqa: T201 - a figure for whoever runs this
    assert took < SOON
