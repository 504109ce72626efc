"""Large jobs over a slow link: each is run once, however long its bytes take."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from sandboxq import Queue, Worker
from tests.broker.proxy import Proxy
from tests.broker.servers import StoppableServer
from tests.conftest import run_async, wait_until_async

PROCESSOR = str(Path(__file__).parent.parent / "processors_for_tests.py")
MB = 1 << 20


async def _has_completed(queue: Queue, number: int) -> bool:
    return (await queue.counts())["completed"] == number


def test_jobs_that_take_longer_than_lock_and_deadline_to_arrive(
    tmp_path: Path, queue_name: str
) -> None:
    """They were claimed, dropped, stalled and claimed again for ever; their locks must be kept."""

    async def main(server: StoppableServer) -> None:
        async with Queue(queue_name, url=server.url) as queue, Proxy(server.port, rate=MB) as proxy:
            data = {"value": 1, "x": "x" * (3 * MB)}
            jobs = await queue.add_bulk([("echo", data)] * 4)
            began = time.monotonic()
            async with Worker(
                queue_name,
                PROCESSOR,
                url=proxy.url + "?socket_timeout=1",
                procs=4,
                lock_duration=1,
                stalled_interval=0.5,
            ) as worker:
                run = asyncio.create_task(worker.run())
                await wait_until_async(lambda: _has_completed(queue, 4))
                seconds = time.monotonic() - began
                worker.stop()
                await run
            done = [await queue.get_job(job.id) for job in jobs]
            assert [job and job.attempts_started for job in done] == [1] * 4
            assert [job and job.stalled_counter for job in done] == [0] * 4
            # Each byte came once, and nothing waited for something else for long.
            assert proxy.bytes_to_client < 4 * 3 * MB * 1.1
            assert seconds < 4 * 3 * 2.5

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


def test_a_claim_that_is_cut_on_its_way_is_made_for_less(
    tmp_path: Path, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A link that breaks every few megabytes gets one job across at a time, and it is said."""

    async def main(server: StoppableServer) -> None:
        async with Queue(queue_name, url=server.url) as queue, Proxy(server.port) as proxy:
            await queue.add_bulk([("echo", {"value": 1, "x": "x" * MB})] * 8)
            proxy.cut_after = 2 * MB
            async with Worker(queue_name, PROCESSOR, url=proxy.url, procs=8) as worker:
                run = asyncio.create_task(worker.run())
                await wait_until_async(lambda: _has_completed(queue, 8))
                worker.stop()
                await run
            jobs = await queue.get_jobs(["completed"])
            assert [job.attempts_started for job in jobs] == [1] * 8
            assert [job.stalled_counter for job in jobs] == [0] * 8

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
    said = [each for each in caplog.records if "answer to a claim was lost" in each.getMessage()]
    assert len(said) == 1
    assert "MB" in said[0].getMessage()


def test_large_values_over_a_link_that_breaks(
    tmp_path: Path, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Eight values at once never arrived, and were sent again for ever: 1 GB of 160 MB."""

    async def main(server: StoppableServer) -> None:
        async with Queue(queue_name, url=server.url) as queue, Proxy(server.port) as proxy:
            async with Worker(queue_name, PROCESSOR, url=proxy.url, procs=8) as worker:
                jobs = await queue.add_bulk([("large", {"do": "large", "size": 2 * MB})] * 8)
                proxy.cut_after_asking = 3 * MB
                run = asyncio.create_task(worker.run())
                await wait_until_async(lambda: _has_completed(queue, 8))
                worker.stop()
                await run
            done = [await queue.get_job(job.id) for job in jobs]
            assert [job and job.attempts_started for job in done] == [1] * 8
            assert proxy.bytes_to_server < 8 * 2 * MB * 4

    with StoppableServer(tmp_path) as server:
        run_async(main(server))
    assert "outcomes were lost on their way" in caplog.text


def test_large_values_over_a_slow_link(tmp_path: Path, queue_name: str) -> None:
    """They take as long as their bytes, and their locks are kept meanwhile."""

    async def main(server: StoppableServer) -> None:
        async with Queue(queue_name, url=server.url) as queue, Proxy(server.port, rate=MB) as proxy:
            async with Worker(
                queue_name,
                PROCESSOR,
                url=proxy.url + "?socket_timeout=1",
                procs=4,
                lock_duration=1,
                stalled_interval=0.5,
            ) as worker:
                jobs = await queue.add_bulk([("large", {"do": "large", "size": 2 * MB})] * 4)
                run = asyncio.create_task(worker.run())
                await wait_until_async(lambda: _has_completed(queue, 4))
                worker.stop()
                await run
            done = [await queue.get_job(job.id) for job in jobs]
            assert [job and job.attempts_started for job in done] == [1] * 4
            assert proxy.bytes_to_server < 4 * 2 * MB * 1.2

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


_LARGE = """
def process(job):
    kind, size = job.data
    if kind == "progress":
        job.update_progress("small")
        job.update_progress("x" * size)
        job.log("after it")
        return "reported"
    if kind == "log":
        job.log("x" * size)
    if kind == "value":
        return "x" * size
    if kind == "small":
        job.update_progress(job.id)
    return kind
"""


@pytest.mark.parametrize("kind", ["progress", "log", "value"])
def test_small_jobs_do_not_wait_for_what_is_large(
    tmp_path: Path, queue_name: str, kind: str
) -> None:
    """Their outcomes and their own reports are written while a large one is on its way."""
    path = tmp_path / "large.py"
    path.write_text(_LARGE)

    async def main(server: StoppableServer) -> None:
        async with (
            Queue(queue_name, url=server.url) as queue,
            Proxy(server.port) as proxy,
            Worker(queue_name, str(path), url=proxy.url, procs=2, policy="none") as worker,
        ):
            run = asyncio.create_task(worker.run())
            await (await queue.add("first", ["small", 0])).result(timeout=60)
            proxy.rate = MB / 4  # what is large takes a minute
            large = await queue.add("large", [kind, 15 * MB])
            await wait_until_async(lambda: _is_sent(proxy))
            jobs = await queue.add_bulk([("small", ["small", 0])] * 20)
            for job in jobs:
                assert await job.result(timeout=60) == "small"
            assert (await queue.counts())["active"] == 1
            proxy.rate = None
            await large.result(timeout=60)
            done = [await job.refresh() for job in jobs]
            assert [job.progress for job in done] == [job.id for job in jobs]
            if kind == "progress":
                found = await large.refresh()
                assert len(found.progress) == 15 * MB
                assert await found.logs() == ["after it"]
            worker.stop()
            await run

    with StoppableServer(tmp_path) as server:
        run_async(main(server))


async def _is_sent(proxy: Proxy) -> bool:
    return any(passage.sent > MB // 4 for passage in proxy.passages)
