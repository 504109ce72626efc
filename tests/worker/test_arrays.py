"""Arrays and bytes through a worker with real children: in, out, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import redis

from sandboxq import JobCrashed, JobFailed, Keep, Queue, Worker
from sandboxq.errors import JobMemoryExceeded, ResultTooLarge
from tests.conftest import run_async, wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TESTS = Path(__file__).parent.parent
PROCESSOR = str(TESTS / "arrays_for_tests.py")
PIXELS = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
LARGE = np.random.default_rng(1).integers(0, 255, 5 << 20, np.uint8)
DATA = {"pixels": PIXELS, "thumb": b"abc", "k": 3}


@contextlib.asynccontextmanager
async def running(url: str, name: str, **options: Any) -> AsyncIterator[tuple[Queue, Worker]]:
    """Yield a queue and a worker that runs for the duration of the block."""
    processor = options.pop("processor", PROCESSOR)
    worker = Worker(name, processor, url=url, **{"procs": 2, **options})
    async with Queue(name, url=url) as queue, worker:
        task = asyncio.create_task(worker.run())
        try:
            yield queue, worker
        finally:
            worker.stop()
            await task


def with_worker(
    url: str, name: str, body: Callable[[Queue, Worker], Awaitable[None]], **options: Any
) -> None:
    """Run an async test body beside a worker."""

    async def main() -> None:
        async with running(url, name, **options) as (queue, worker):
            await body(queue, worker)

    run_async(main())


def test_there_and_back(server_url: str, queue_name: str) -> None:
    """The processor sees a read-only view; the producer gets arrays and bytes again."""

    async def body(queue: Queue, _: Worker) -> None:
        job = await queue.add("double", DATA)
        value = await job.result(timeout=60)
        assert (value["doubled"] == PIXELS * 2).all()
        assert (value["thumb"], value["k"]) == (b"cba", 3)
        stored = await job.refresh()
        assert stored.returnvalue["k"] == 3
        assert stored.returnvalue["doubled"]["shape"] == [3, 4, 5]
        seen = await (await queue.add("look", DATA)).result(timeout=60)
        assert not seen["owns"]
        assert not seen["writeable"]
        assert seen["sum"] == PIXELS.sum()
        assert seen["dtype"] == "<u2"
        with pytest.raises(JobFailed, match="read-only"):
            await (await queue.add("write", PIXELS)).result(timeout=60)

    with_worker(server_url, queue_name, body)


def test_data_that_is_returned_has_its_arrays(server_url: str, queue_name: str) -> None:
    """And bytes: not references to parts that the result does not have."""

    async def body(queue: Queue, _: Worker) -> None:
        value = await (await queue.add("data", DATA)).result(timeout=60)
        assert (value["data"]["pixels"] == PIXELS).all()
        assert (value["again"][0] == PIXELS).all()
        assert (value["data"]["thumb"], value["data"]["k"]) == (DATA["thumb"], 3)

    with_worker(server_url, queue_name, body)


def test_many_of_all_sizes(server_url: str, queue_name: str) -> None:
    """Each job gets its own arrays, in whatever order children take them."""

    async def body(queue: Queue, _: Worker) -> None:
        sizes = [0, 1, 100, 5000, 70_000, 3 << 20] * 12
        arrays = [np.full(size, i, np.uint8) for i, size in enumerate(sizes)]
        jobs = await queue.add_bulk([("back", array) for array in arrays])
        values = await asyncio.gather(*(job.result(timeout=60) for job in jobs))
        for value, array in zip(values, arrays, strict=True):
            assert (value == array).all()
            assert value.shape == array.shape

    with_worker(server_url, queue_name, body)


def test_many_at_once_in_one_child(server_url: str, queue_name: str) -> None:
    """Async jobs share a child and its arena; nobody reads what is another's."""

    async def body(queue: Queue, _: Worker) -> None:
        jobs = await queue.add_bulk([("a", np.full(90_000, i)) for i in range(60)])
        for i, job in enumerate(jobs):
            assert (await job.result(timeout=60) == i + 1).all()

    processor = str(TESTS / "async_arrays_for_tests.py")
    with_worker(server_url, queue_name, body, processor=processor, procs=1, concurrency=8)


def test_sync_twin(server_url: str, queue_name: str) -> None:
    """A producer without a loop gets its arrays back too."""

    async def body(_: Queue, __: Worker) -> None:
        def produce() -> Any:
            with Queue.sync(queue_name, server_url) as queue:
                return queue.add("back", LARGE).result(timeout=60)

        assert (await asyncio.to_thread(produce) == LARGE).all()

    with_worker(server_url, queue_name, body)


def test_a_retry_has_its_arrays_again(server_url: str, queue_name: str) -> None:
    """They live as long as the job."""

    async def body(queue: Queue, _: Worker) -> None:
        job = await queue.add("back-twice", LARGE, attempts=2)
        assert (await job.result(timeout=60) == LARGE).all()

    with_worker(server_url, queue_name, body)


def test_removed_when_it_ends(server_url: str, queue_name: str) -> None:
    """Who waits still reads the value; the data's arrays are gone, the value's within a minute."""
    client = redis.Redis.from_url(server_url)
    client.flushdb()

    async def body(queue: Queue, _: Worker) -> None:
        for keep in (True, 1, Keep(age=100)):
            job = await queue.add("back", LARGE, remove_on_complete=keep)
            assert (await job.result(timeout=60) == LARGE).all()

    with_worker(server_url, queue_name, body)
    ttls: list[Any] = [client.ttl(key) for key in client.keys("bull::sandboxq:binary:*")]
    assert len([ttl for ttl in ttls if ttl > 60]) == 4, "data and value of the two that are kept"
    assert len(ttls) == 5


@pytest.mark.parametrize("name", ["ones", "text"])
def test_too_large_a_result(server_url: str, queue_name: str, name: str) -> None:
    """A typed error that says how large, and no further attempt."""

    async def body(queue: Queue, _: Worker) -> None:
        job = await queue.add(name, {"size": 2 << 20}, attempts=3)
        with pytest.raises(ResultTooLarge, match="the limit is 1048576"):
            await job.result(timeout=60)
        assert (await job.refresh()).attempts_made == 1
        job = await queue.add(name, {"size": 1000})
        assert len(await job.result(timeout=60)) == 1000

    with_worker(server_url, queue_name, body, max_result=1 << 20)


def test_what_is_no_data(server_url: str, queue_name: str) -> None:
    """Objects are refused, a wrong name is explained."""

    async def body(queue: Queue, _: Worker) -> None:
        with pytest.raises(JobFailed, match="the return value has an array of dtype object"):
            await (await queue.add("objects", {})).result(timeout=60)
        with pytest.raises(JobFailed, match="named 'nothing'; there are: 'pixels', 'thumb'"):
            await (await queue.add("missing", DATA)).result(timeout=60)
        with pytest.raises(JobFailed, match="there are: none"):
            await (await queue.add("missing", {})).result(timeout=60)

    with_worker(server_url, queue_name, body)


def test_node_buffers(server_url: str, queue_name: str) -> None:
    """What Node's JSON makes of a Buffer is bytes here."""

    async def body(queue: Queue, _: Worker) -> None:
        data = {"file": {"type": "Buffer", "data": [0, 1, 255]}}
        value = await (await queue.add("buffer", data)).result(timeout=60)
        assert value == {"size": 3, "copy": b"\x00\x01\xff"}

    with_worker(server_url, queue_name, body)


def test_arrays_that_are_gone(server_url: str, queue_name: str) -> None:
    """The job fails and says so; the worker goes on."""
    client = redis.Redis.from_url(server_url)

    async def main() -> None:
        async with Queue(queue_name, url=server_url) as queue:
            client.flushdb()
            lost = [await queue.add("back", array) for array in (PIXELS, LARGE)]
            client.delete(*client.keys("bull::sandboxq:binary:*"))
        async with running(server_url, queue_name) as (queue, _):
            for each in lost:
                with pytest.raises(JobFailed, match="it was removed, or expired"):
                    await queue.result(each.id, timeout=60)
            assert (await (await queue.add("back", PIXELS)).result(timeout=60) == PIXELS).all()

    run_async(main())


def test_a_killed_child(server_url: str, queue_name: str) -> None:
    """Its job fails; those beside it run elsewhere with their arrays; its memory is gone."""

    async def body(queue: Queue, worker: Worker) -> None:
        jobs = [await queue.add("back", LARGE) for _ in range(8)]
        killed = await queue.add("die", LARGE)
        with pytest.raises(JobCrashed):
            await killed.result(timeout=60)
        for job in jobs:
            assert (await job.result(timeout=60) == LARGE).all()
        await wait_until_async(lambda: _has(lambda: arenas(os.getpid()) == len(worker.pool.pids)))

    with_worker(server_url, queue_name, body)


async def _has(condition: Callable[[], bool]) -> bool:
    return condition()


def arenas(pid: int) -> int:
    """Return how many arenas a process holds open."""
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if "sandboxq-arena" in str(fd.readlink()):
                found.add(fd.stat().st_ino)
    return len(found)


def test_honest_arrays_are_no_memory_bomb(server_url: str, queue_name: str) -> None:
    """Shared memory that the worker filled does not count; what a job fills by itself does."""

    async def body(queue: Queue, worker: Worker) -> None:
        large = np.ones(200 << 20, np.uint8)
        job = await queue.add("hold", large)
        assert await job.result(timeout=60) == len(large)
        bomb = await queue.add("fill-arena", {})
        with pytest.raises(JobMemoryExceeded):
            await bomb.result(timeout=60)
        with pytest.raises(JobFailed, match="Operation not permitted"):
            await (await queue.add("shrink-arena", {})).result(timeout=60)
        assert worker.counters.failed == 2

    with_worker(server_url, queue_name, body, policy=small_policy(), procs=1, max_result=1 << 20)


def small_policy() -> Any:
    """Return a policy that grants little memory."""
    from sandboxq.sandbox.policy import Policy

    return Policy("limits", memory=150 << 20)


def test_a_worker_that_is_stopped_hands_back(server_url: str, queue_name: str) -> None:
    """Jobs whose arrays are being read go back untouched and run with the next worker."""

    async def main() -> None:
        async with running(server_url, queue_name) as (queue, worker):
            jobs = [await queue.add("back", LARGE) for _ in range(12)]
            worker.stop()
            worker.stop()
        async with running(server_url, queue_name) as (queue, _):
            for job in jobs:
                assert (await queue.result(job.id, timeout=30) == LARGE).all()

    run_async(main())


def test_a_killed_worker_leaves_nothing(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Kill -9 in the middle of large arrays: no shared memory is left, and in Redis only jobs."""
    import subprocess
    import sys

    client = redis.Redis.from_url(server_url)
    client.flushdb()
    command = [sys.executable, "-m", "sandboxq", "run", PROCESSOR, "--queue", queue_name]
    before = shared_memory()

    async def add(*jobs: tuple[str, Any]) -> None:
        async with Queue(queue_name, url=server_url) as queue:
            await queue.add_bulk(jobs)

    options = ["--procs", "2", "--url", server_url, "--lock-duration", "1"]
    options += ["--stalled-interval", "0.3"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    worker = subprocess.Popen([*command, *options], cwd=tmp_path, env=environment)
    run_async(add(*[("big", LARGE)] * 6))
    wait_until(lambda: client.zcard(f"bull:{queue_name}:completed"))
    worker.send_signal(signal.SIGKILL)
    worker.wait(60)
    wait_until(lambda: shared_memory() <= before + (8 << 20))

    async def finish() -> None:
        async with running(server_url, queue_name, stalled_interval=0.3, lock_duration=1.0) as (
            queue,
            _,
        ):
            done = lambda: _completed(queue)  # noqa: E731 - asked again and again
            await wait_until_async(done)
            job_ids = [job.id for job in await queue.get_jobs("completed")]
            for job_id in job_ids:
                await queue.remove(job_id)
            await wait_until_async(lambda: _has(lambda: not client.keys("bull::sandboxq:bin*")))

    run_async(finish())


async def _completed(queue: Queue) -> bool:
    return (await queue.counts())["completed"] == 6


def shared_memory() -> int:
    """Return how much shared memory there is on the machine, in bytes."""
    for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
        if line.startswith("Shmem:"):
            return int(line.split()[1]) * 1024
    return 0
