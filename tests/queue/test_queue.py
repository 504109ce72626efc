"""The queue as producers and operators use it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq.broker.connect.broker import Broker
from sandboxq.errors import (
    BrokerUnavailable,
    BulkAddFailed,
    JobNotFound,
    ParentNotFound,
    QueueHasActiveJobs,
    UsageError,
)
from sandboxq.model.backoff import Backoff
from sandboxq.model.job import JobState, Parent
from sandboxq.queue.job import QueuedJob
from sandboxq.queue.queue import Queue, queue_names
from tests.conftest import run_async
from tests.queue.bench import completed, finish

if TYPE_CHECKING:
    from sandboxq.queue.options import AddOptions
    from tests.queue.bench import Bench


@pytest.mark.parametrize("name", ["", "a:b"])
def test_wrong_queue_names(name: str) -> None:
    """They would mix up the keys of two queues."""
    with pytest.raises(UsageError, match="queue name"):
        Queue(name)


def test_a_queue_does_nothing_before_it_is_used(bench: Bench) -> None:
    """Making one needs neither Redis nor a running loop, and writes nothing."""
    queue = Queue(bench.name, "redis://127.0.0.1:1")

    assert queue.name == bench.name
    with pytest.raises(BrokerUnavailable):
        run_async(queue.counts())
    run_async(queue.close())


def test_add_and_look(bench: Bench) -> None:
    """What was added is what is read, and both can be asked for their state."""

    async def body(queue: Queue) -> None:
        added = await queue.add(
            "resize", {"src": "ä.jpg"}, delay=60, attempts=3, backoff=Backoff.exponential(1.0)
        )
        read = await added.refresh()
        assert read == added
        assert (read.id, read.name, read.data) == ("1", "resize", {"src": "ä.jpg"})
        assert (read.delay_ms, read.opts.attempts) == (60_000, 3)
        assert await read.state() is JobState.DELAYED
        assert await queue.get_job("2") is None
        with pytest.raises(JobNotFound):
            await queue.read_job("2")

    bench.run(body)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (("n", float("nan")), "data"),
        (("n", {1: 2}), "data"),
        (("", {}), "name"),
        (("n", "x" * 20, {"size_limit": 10}), "size"),
        (("n", {}, {"priority": 1.5}), "priority"),
        (("n", {}, {"repeat": {"every": 1}}), "repeat"),
    ],
)
def test_one_wrong_job_writes_nothing(bench: Bench, entry: Any, text: str) -> None:
    """A batch is checked as a whole before the first job goes out."""

    async def body(queue: Queue) -> None:
        with pytest.raises(UsageError, match=text):
            await queue.add_bulk([("good", {}), entry])

    bench.run(body)

    assert bench.redis.keys(bench.keys["*"]) == []


def test_add_bulk(bench: Bench) -> None:
    """Jobs come back in the order in which they were given, whatever their options."""

    async def body(queue: Queue) -> None:
        jobs = await queue.add_bulk([("a", 1), ("b", 2, {"priority": 3}), ("c", 3, {"lifo": True})])
        assert [(job.id, job.name, job.data) for job in jobs] == [
            *(("1", "a", 1), ("2", "b", 2), ("3", "c", 3))
        ]
        assert jobs[1].priority == 3
        assert await queue.add_bulk([]) == []
        assert await queue.count() == 3

    bench.run(body)


def test_add_bulk_says_which_were_refused(bench: Bench) -> None:
    """The others are in the queue; whoever adds again must not add them twice."""

    async def body(queue: Queue) -> None:
        orphan: AddOptions = {"parent": Parent("gone", queue.name)}
        with pytest.raises(BulkAddFailed, match="1 of 2") as caught:
            await queue.add_bulk([("a", 1), ("b", 2, orphan)])
        first, second = caught.value.results
        assert isinstance(first, QueuedJob)
        assert first.id == "1"
        assert isinstance(second, ParentNotFound)
        with pytest.raises(ParentNotFound):
            await queue.add("b", 2, parent=orphan["parent"])

    bench.run(body)


def test_concurrent_adds(bench: Bench) -> None:
    """Hundreds of tasks may add at once; each gets its own job."""

    async def body(queue: Queue) -> None:
        jobs = await asyncio.gather(*(queue.add("n", i) for i in range(500)))
        assert [job.data for job in jobs] == list(range(500))
        assert len({job.id for job in jobs}) == 500
        stored = await queue.get_jobs("waiting", ascending=True)
        assert {job.id: job.data for job in stored} == {job.id: job.data for job in jobs}

    bench.run(body)


def test_one_wrong_add_among_concurrent_ones(bench: Bench) -> None:
    """A caller must not pay for the mistake of another."""

    async def body(queue: Queue) -> None:
        results = await asyncio.gather(
            queue.add("n", 1),
            queue.add("n", 2, parent=Parent("gone", queue.name)),
            queue.add("n", 3),
            return_exceptions=True,
        )
        assert isinstance(results[1], ParentNotFound)
        assert await queue.count() == 2

    bench.run(body)


def test_get_jobs_of_several_states(bench: Bench) -> None:
    """An operator lists what still has to run in one call; state names are checked."""

    async def body(queue: Queue) -> None:
        await queue.add_bulk([("w", 1), ("p", 2, {"priority": 1}), ("d", 3, {"delay": 9})])
        jobs = await queue.get_jobs([JobState.WAITING, "prioritized", "delayed"])
        assert [job.name for job in jobs] == ["w", "p", "d"]
        with pytest.raises(UsageError, match="a state must be one of"):
            await queue.get_jobs("sleeping")
        with pytest.raises(UsageError, match="a state must be one of"):
            await queue.get_jobs("unknown")

    bench.run(body)


def test_counts_are_plain(bench: Bench) -> None:
    """They are printed as JSON, and asked for by name or by state."""

    async def body(queue: Queue) -> None:
        await queue.add("n", {})
        await finish(bench.url, bench.name, completed(b"1"))
        await queue.add("n", {})
        counts = await queue.counts()
        assert json.loads(json.dumps(counts)) == counts
        assert (counts["waiting"], counts[JobState.COMPLETED], counts["failed"]) == (1, 1, 0)
        assert await queue.count() == 1

    bench.run(body)


def test_operating(bench: Bench) -> None:
    """Pause, resume, remove and obliterate, as their names say."""

    async def body(queue: Queue) -> None:
        job = await queue.add("n", {})
        await queue.pause()
        assert await queue.is_paused()
        await queue.resume()
        assert not await queue.is_paused()
        assert await job.remove()
        assert not await queue.remove(job.id)
        assert await job.state() is JobState.UNKNOWN
        bench.redis.lpush(bench.keys["active"], "x")
        with pytest.raises(QueueHasActiveJobs):
            await queue.obliterate()
        await queue.obliterate(force=True)

    bench.run(body)

    assert bench.redis.keys(bench.keys["*"]) == []


def test_logs_and_workers(bench: Bench) -> None:
    """What a job printed, and who works here."""
    bench.redis.rpush(bench.keys["1:logs"], "a", "b")

    async def body(queue: Queue) -> None:
        job = await queue.add("n", {})
        assert await job.logs() == ["a", "b"]
        assert await queue.logs(job.id, 1) == ["b"]
        assert await queue.get_workers() == []

    bench.run(body)


def test_a_broker_that_was_given_stays_open(bench: Bench) -> None:
    """Several queues share one process's connections."""

    async def main() -> None:
        broker = await Broker.connect(bench.url)
        async with Queue(bench.name, broker=broker, prefix="own") as queue:
            await queue.add("n", {})
        assert await queue_names(broker, "own") == [bench.name]
        await broker.close()

    run_async(main())


def test_a_queue_closed_while_it_connects_leaves_no_connection(bench: Bench) -> None:
    """The connection came up after ``close``, and nobody had it any more."""

    async def main() -> None:
        queue = Queue(bench.name, bench.url)
        counting = asyncio.create_task(queue.counts())
        await asyncio.sleep(0)
        await queue.close()
        with pytest.raises(UsageError, match="was closed"):
            await counting
        assert queue._broker is None

    run_async(main())
