"""Arrays and bytes beside the job in Redis: added, read, and gone with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import redis

from sandboxq import (
    BinaryMissing,
    BulkAddFailed,
    Deduplication,
    FlowProducer,
    Keep,
    Parent,
    Queue,
    UsageError,
)
from sandboxq.broker.commands.binary import note, store_all, sweep
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import ParentNotFound
from sandboxq.model.outcome import Complete
from sandboxq.payload.binary import Entry, Part
from tests.conftest import run_async
from tests.queue.bench import Bench, finish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxq.queue.flow_plan import FlowNode

PIXELS = np.arange(12, dtype=np.uint16).reshape(3, 4)
LARGE = np.random.default_rng(1).integers(0, 255, 3 << 20, np.uint8)
DATA = {"pixels": PIXELS, "thumb": b"\x00\xffthumb", "k": 3}


@pytest.fixture(params=["server_url", "redis_url"], ids=["valkey", "redis"])
def bench(request: pytest.FixtureRequest, queue_name: str) -> Iterator[Bench]:
    """Yield an empty queue, once on Valkey and once on Redis, and a client beside it."""
    url = request.getfixturevalue(request.param)
    client: Any = redis.Redis.from_url(url)
    with client:
        yield Bench(url, queue_name, client)
        client.flushdb()


def blobs(bench: Bench) -> int:
    """Return how many blobs there are."""
    return len(bench.redis.keys("bull::sandboxq:binary:*"))


def test_a_job_with_arrays(bench: Bench) -> None:
    """The JSON has references, the bytes stand beside it, and live as long as a job may wait."""

    async def body(queue: Queue) -> None:
        job = await queue.add("stats", {**DATA, "large": LARGE})
        assert job.data["pixels"] is PIXELS
        read = await job.refresh()
        assert read.data["k"] == 3
        assert read.data["thumb"] == {"sq:binary": "thumb", "bytes": 7}
        assert (await read.array("pixels") == PIXELS).all()
        assert (await read.array("large") == LARGE).all()
        assert await read.binary("thumb") == b"\x00\xffthumb"
        with pytest.raises(UsageError, match="named 'x'; there are: 'pixels', 'thumb', 'large'"):
            await read.array("x")

    bench.run(body)
    (key,) = bench.redis.hkeys(bench.keys.binaries)
    assert bench.redis.ttl(key) > 29 * 86400
    assert bench.redis.hgetall(bench.keys.binaries) == {key: b"1"}
    assert bench.redis.xlen(bench.keys["events"]) == 2


def test_sync_twin(bench: Bench) -> None:
    """Code without a loop has the same."""
    with Queue.sync(bench.name, bench.url) as queue:
        job = queue.add("stats", DATA)
        assert (job.refresh().array("pixels") == PIXELS).all()
        assert queue.job_binary(job.id, "thumb") == b"\x00\xffthumb"


def test_many_at_once(bench: Bench) -> None:
    """Jobs with and without arrays keep their order and their own arrays."""

    async def body(queue: Queue) -> None:
        entries = [("a", np.full(3, i) if i % 2 else {"i": i}) for i in range(50)]
        jobs = await queue.add_bulk(entries)
        assert [job.id for job in jobs] == [str(i + 1) for i in range(50)]
        for i, job in enumerate(jobs):
            if i % 2:
                assert (await job.array() == i).all()
            else:
                assert (await job.refresh()).data == {"i": i}

    bench.run(body)
    assert blobs(bench) == 25


def test_a_flow(bench: Bench) -> None:
    """Every job of a tree may have its own; a refused tree leaves nothing."""

    async def body(queue: Queue) -> None:
        async with FlowProducer(bench.url) as flows:
            child: FlowNode = {"name": "c", "queue": bench.name, "data": {"a": PIXELS}}
            flow = await flows.add(name="p", queue=bench.name, data=PIXELS, children=[child])
            assert (await flow.job.array() == PIXELS).all()
            assert (await flow.children[0].job.array("a") == PIXELS).all()
            assert blobs(bench) == 2
            with pytest.raises(ParentNotFound):
                await flows.add(
                    name="p", queue=bench.name, data=PIXELS, parent=Parent("no", bench.name)
                )
            assert blobs(bench) == 2
            await queue.remove(flow.job.id)

    bench.run(body)
    assert blobs(bench) == 0


def test_what_was_not_added_leaves_nothing(bench: Bench) -> None:
    """A duplicate, a deduplicated and a refused job take their arrays along."""

    async def body(queue: Queue) -> None:
        await queue.add("a", PIXELS, job_id="x")
        await queue.add("a", PIXELS, job_id="x")
        await queue.add("a", PIXELS, deduplication=Deduplication("d"))
        await queue.add("a", PIXELS, deduplication=Deduplication("d"))
        with pytest.raises(BulkAddFailed):
            await queue.add_bulk([("a", PIXELS, {"parent": Parent("no", bench.name)})])

    bench.run(body)
    assert blobs(bench) == 2
    assert bench.redis.hlen(bench.keys.binaries) == 2


def test_refused_before_anything_is_written(bench: Bench) -> None:
    """Bad arrays, and options that Node's scripts would lose arrays by."""

    async def body(queue: Queue) -> None:
        with pytest.raises(UsageError, match="dtype object"):
            await queue.add("a", {"x": np.array([None])})
        rule = Deduplication("d", keep_last_if_active=True)
        with pytest.raises(UsageError, match="keep_last_if_active"):
            await queue.add("a", PIXELS, deduplication=rule)
        with pytest.raises(UsageError, match="not JSON serializable"):
            await queue.add("a", {"x": PIXELS, "y": {1, 2}})

    bench.run(body)
    assert bench.redis.keys("*") == []


@pytest.mark.parametrize("how", ["remove", "drain", "clean", "obliterate", "replace"])
def test_removal_takes_the_arrays_along(bench: Bench, how: str) -> None:
    """However our side removes a job."""

    async def body(queue: Queue) -> None:
        job = await queue.add("a", DATA)
        match how:
            case "remove":
                await job.remove()
            case "drain":
                await queue.drain()
            case "clean":
                await queue.clean(0, state="waiting")
            case "obliterate":
                await queue.pause()
                await queue.obliterate()
            case _:
                await job.remove()
                rule = Deduplication("d", replace=True)
                await queue.add("a", DATA, delay=60, deduplication=rule)
                await queue.add("a", {}, delay=60, deduplication=rule)

    bench.run(body)
    assert blobs(bench) == 0
    assert not bench.redis.exists(bench.keys.binaries)


def complete_with(bench: Bench, array: Any, keep: Keep) -> None:
    """Claim and complete a job whose value is an array, as a worker would."""

    async def main() -> None:
        broker = await Broker.connect(bench.url)
        keys = QueueKeys(bench.name)
        entry = Entry("value", array.dtype.str, list(array.shape), array.nbytes)
        parts = [Part(entry, memoryview(array).cast("B"))]
        (reference,) = await store_all(broker, [(keys, parts)])
        await note(broker, keys, reference, b"1")
        await broker.close()
        value = json.dumps({"sq:binary": "value"}).encode()
        await finish(bench.url, bench.name, Complete(value, keep, reference.text()))

    run_async(main())


@pytest.mark.parametrize("keep", [Keep(), Keep(count=0), Keep(count=1), Keep(age=100)], ids=str)
def test_a_result_with_arrays(bench: Bench, keep: Keep) -> None:
    """Read from the event or from the job; not kept, it can be read for a minute."""

    async def add(queue: Queue) -> None:
        await queue.add("a", {})

    bench.run(add)
    complete_with(bench, LARGE, keep)

    async def read(queue: Queue) -> None:
        assert (await queue.result("1", timeout=5) == LARGE).all()

    bench.run(read)
    (key,) = bench.redis.keys("bull::sandboxq:binary:*")
    assert (bench.redis.ttl(key) <= 60) == (keep.count == 0)
    assert all(len(row) < 2000 for row in bench.redis.xrange(bench.keys["events"]))


@pytest.mark.parametrize("keep", [Keep(count=1), Keep(age=0)], ids=str)
def test_retention_takes_results_along(bench: Bench, keep: Keep) -> None:
    """The next job that finishes removes the older one with its data and its value."""

    async def add(queue: Queue) -> None:
        await queue.add("a", DATA)

    for _ in range(2):
        bench.run(add)
        complete_with(bench, PIXELS, keep)
    kept = bench.redis.zcard(bench.keys["completed"])
    assert blobs(bench) == 2 * kept
    assert bench.redis.hlen(bench.keys.binaries) == 2 * kept


def test_retried_and_completed_again(bench: Bench) -> None:
    """The data's arrays stay for the next run; the old value's go when the new one comes."""

    async def body(queue: Queue) -> None:
        await queue.retry("1", "completed")

    async def add(queue: Queue) -> None:
        await queue.add("a", DATA)

    bench.run(add)
    complete_with(bench, PIXELS, Keep())
    bench.run(body)
    complete_with(bench, LARGE, Keep())
    run_async(swept(bench))
    assert blobs(bench) == 2


async def swept(bench: Bench) -> int:
    """Sweep once, as workers do now and then."""
    broker = await Broker.connect(bench.url)
    try:
        removed, _ = await sweep(broker, bench.keys)
        return removed
    finally:
        await broker.close()


def test_sweep(bench: Bench) -> None:
    """What Node removes takes its arrays along at the next sweep; all else stays and lives on."""

    async def body(queue: Queue) -> None:
        for _ in range(3):
            await queue.add("a", DATA)

    bench.run(body)
    by_job = {job_id: key for key, job_id in bench.redis.hgetall(bench.keys.binaries).items()}
    bench.redis.delete(bench.keys["1"])
    bench.redis.expire(by_job[b"2"], 1000)
    bench.redis.hdel(bench.keys["3"], "sq:binary")
    bench.redis.set(bench.keys["3:lock"], "running")
    assert run_async(swept(bench)) == 1
    assert bench.redis.ttl(by_job[b"2"]) > 29 * 86400
    assert set(bench.redis.hgetall(bench.keys.binaries)) == {by_job[b"2"], by_job[b"3"]}
    bench.redis.delete(bench.keys["3:lock"])
    assert run_async(swept(bench)) == 1


def test_gone_or_changed(bench: Bench) -> None:
    """Who asks for arrays that are not there reads why."""

    async def body(queue: Queue) -> None:
        job = await queue.add("a", {"large": LARGE, "small": b"abc"})
        (key,) = bench.redis.keys("bull::sandboxq:binary:*")
        bench.redis.setrange(key, 5 << 20, b"x")
        assert (await job.array("large") == LARGE).all()
        bench.redis.delete(key)
        for name in ("large", "small"):
            with pytest.raises(BinaryMissing, match="it was removed"):
                await job.array(name)

    bench.run(body)
