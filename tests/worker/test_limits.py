"""Workers under a rate limit or a global concurrency: never more, and no longer than told."""

from __future__ import annotations

import asyncio
import itertools

from sandboxq import Queue, RateLimit, Worker
from tests.conftest import SOON, run_async, wait_until_async
from tests.worker.test_worker import PROCESSOR, running, with_worker


def test_several_workers_share_one_window(server_url: str, queue_name: str) -> None:
    """The limit is the queue's, however many workers there are."""

    async def main() -> None:
        limit = RateLimit(3, 0.5)
        options = {"limiter": limit, "procs": 1, "drain_delay": 60}
        async with (
            running(server_url, queue_name, **options) as (queue, _),
            running(server_url, queue_name, **options),
        ):
            loop = asyncio.get_running_loop()
            began = loop.time()
            jobs = await queue.add_bulk([("echo", {"value": n}) for n in range(10)])
            await asyncio.gather(*(job.result(timeout=60) for job in jobs))
            read = [await queue.read_job(job.id) for job in jobs]
            starts = sorted(job.processed_on_ms or 0 for job in read)
            # Ten jobs need four windows; nobody slept longer than Redis had said.
            assert loop.time() - began > 1.4
            assert starts[-1] - starts[0] < SOON * 1000

    run_async(main())


def test_a_limited_worker_stops_at_once(server_url: str, queue_name: str) -> None:
    """Whoever sleeps for a minute must hear that the day is over."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            jobs = await queue.add_bulk([("echo", {"value": n}) for n in range(2)])
            async with Worker(
                queue_name,
                PROCESSOR,
                url=server_url,
                procs=1,
                limiter=RateLimit(1, 600),
            ) as worker:
                run = asyncio.create_task(worker.run())
                await jobs[0].result(timeout=60)
                await wait_until_async(lambda: _is_limited(worker))
                worker.stop()
                await asyncio.wait_for(run, SOON)
            assert (await queue.counts())["waiting"] == 1

    run_async(main())


async def _is_limited(worker: Worker) -> bool:
    return bool(int(await worker.broker.command("PTTL", worker.keys["limiter"])) > 0)


def test_the_queues_own_limit_needs_no_setting(server_url: str, queue_name: str) -> None:
    """A global limit, as Node's `setGlobalRateLimit` writes it."""

    async def body(queue: Queue, worker: Worker) -> None:
        await worker.broker.command("HSET", worker.keys["meta"], "max", 2, "duration", 400)
        loop = asyncio.get_running_loop()
        began = loop.time()
        jobs = await queue.add_bulk([("echo", {"value": n}) for n in range(5)])
        await asyncio.gather(*(job.result(timeout=60) for job in jobs))
        assert 0.7 < loop.time() - began < SOON  # three windows

    with_worker(server_url, queue_name, body, drain_delay=60)


def test_global_concurrency_is_kept_and_room_is_used_at_once(
    server_url: str, queue_name: str
) -> None:
    """Two workers take turns, and the one that found the queue full does not oversleep."""

    async def main() -> None:
        async with (
            running(server_url, queue_name, drain_delay=60) as (queue, worker),
            running(server_url, queue_name, drain_delay=60),
        ):
            await worker.broker.command("HSET", worker.keys["meta"], "concurrency", 1)
            started = asyncio.get_running_loop().time()
            jobs = await queue.add_bulk([("sleep", {"do": "sleep", "seconds": 0.1})] * 6)
            await asyncio.gather(*(job.result(timeout=60) for job in jobs))
            assert asyncio.get_running_loop().time() - started < SOON
            read = [await queue.read_job(job.id) for job in jobs]
            spans = sorted((job.processed_on_ms or 0, job.finished_on_ms or 0) for job in read)
            assert all(one[1] <= next_one[0] for one, next_one in itertools.pairwise(spans))

    run_async(main())


def test_a_delayed_job_is_not_forgotten_where_there_is_no_room(
    server_url: str, queue_name: str
) -> None:
    """By the time it is due there may be room, and whoever made it says so only to what waits."""

    async def main() -> None:
        async with (
            Queue(queue_name, url=server_url) as queue,
            Worker(queue_name, url=server_url) as other,
        ):
            await queue.set_global_concurrency(1)
            await queue.add("echo", {})
            held = await other.get_next_job()
            assert held is not None
            async with running(server_url, queue_name, drain_delay=30) as (_, worker):
                later = await queue.add("echo", {"value": "late"}, delay=1)
                await wait_until_async(lambda: _has_taken_the_marker(worker))
                await held.move_to_completed(None)
                assert await later.result(timeout=60) == "late"

    run_async(main())


async def _has_taken_the_marker(worker: Worker) -> bool:
    return not await worker.broker.command("EXISTS", worker.keys["marker"])


def test_a_burst_under_a_limit_ends(server_url: str, queue_name: str) -> None:
    """A batch that is limited takes longer, and then is done."""

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            await queue.add_bulk([("echo", {})] * 4)
            async with Worker(
                queue_name,
                PROCESSOR,
                url=server_url,
                procs=1,
                limiter=RateLimit(2, 0.3),
            ) as worker:
                await asyncio.wait_for(worker.run(burst=True), 10)
            assert (await queue.counts())["completed"] == 4

    run_async(main())
