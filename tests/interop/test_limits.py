"""Rate limits that workers of both languages obey together."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from sandboxq import RateLimit
from tests.conftest import wait_until_async

if TYPE_CHECKING:
    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide


async def test_workers_of_both_languages_share_one_window(node: NodeSide, ours: OurSide) -> None:
    """The limit belongs to the queue: a service behind it does not care who calls."""
    await node.start_worker(limiter={"max": 3, "duration": 500})
    async with ours.worker(limiter=RateLimit(3, 0.5)), ours.queue() as queue:
        jobs = await queue.add_bulk([("echo", number) for number in range(12)])

        async def is_done() -> bool:
            return (await queue.counts())["completed"] == len(jobs)

        await wait_until_async(is_done)
        starts = sorted([(await queue.read_job(job.id)).processed_on_ms or 0 for job in jobs])

    # A window begins with its first job; how soon the other two follow is the machine's affair.
    windows = starts[::3]
    for first, fourth in itertools.pairwise(windows):
        assert fourth - first > 400
    assert len(set(await node.runs())) <= len(jobs)


async def test_a_job_of_ours_stops_nodes_worker(node: NodeSide, ours: OurSide) -> None:
    """Node heeds a limit set by hand where it has a limiter of its own."""
    async with ours.queue() as queue:
        async with ours.worker():
            limiting = await queue.add("limit-rate", {"ms": 800})

            async def is_limited() -> bool:
                return await queue.rate_limit_ttl() > 0

            await wait_until_async(is_limited)
        await node.start_worker(limiter={"max": 100, "duration": 1000})
        other = await queue.add("echo", 1)
        await other.result(timeout=60)
        limited, later = await limiting.refresh(), await other.refresh()

    assert limited.attempts_made <= 1
    # Ours began it, said that all must wait, and gave it back; nobody claimed before the time.
    assert (later.processed_on_ms or 0) - limited.timestamp_ms > 700


async def test_a_limit_that_node_sets_stops_ours(node: NodeSide, ours: OurSide) -> None:
    """`queue.rateLimit` of Node needs no limiter of our worker's."""
    async with ours.worker(), ours.queue() as queue:
        limited_ms = time.time() * 1000
        await node.queue("rateLimit", 700)
        job = await queue.add("echo", 1)
        await job.result(timeout=60)
        stored = await job.refresh()

    # The server's clock may show the millisecond before.
    assert (stored.processed_on_ms or 0) - limited_ms >= 695
