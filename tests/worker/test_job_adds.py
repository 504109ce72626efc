"""Jobs that add jobs, through their worker: no password, under the lock, bounded."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from sandboxq import Policy, Queue, Worker
from sandboxq.broker.commands.add import Fence, NewNode, add_flows, new_job
from sandboxq.broker.connect.broker import Broker
from sandboxq.broker.keys import QueueKeys
from sandboxq.errors import JobFailed, LockMissing
from tests.conftest import run_async, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ADDER = """
import datetime as dt
from sandboxq import Backoff, Deduplication, Keep, Parent, WaitingChildrenError

def process(job):
    return globals()[job.name](job)

def one(job):
    added = job.queue(job.data["to"]).add("thumb", {"of": job.id, "text": "ä 🎉"})
    return [added.id, added.name, added.queue_name]

def own(job):
    if job.data.get("again"):
        return job.add("own", {}).id
    return "done"

def options(job):
    queue = job.queue(job.data["to"])
    queue.add("a", 1, delay=dt.timedelta(seconds=60), attempts=3, backoff=Backoff.exponential(1.0),
        remove_on_complete=Keep(count=5), job_id="mine", timeout=30)
    queue.add("b", 2, priority=4)
    first = queue.add("c", 3, deduplication=Deduplication("only"))
    return first.id == queue.add("c", 3, deduplication=Deduplication("only")).id

def bulk(job):
    added = job.queue(job.data["to"]).add_bulk([("n", i, {"lifo": True}) for i in range(300)])
    return len({each.id for each in added})

def flow(job):
    root = job.add_flow(name="album", queue=job.data["to"], data={}, children=[
        {"name": "page", "queue": job.queue_name, "data": i} for i in range(3)])
    return root.id

def page(job):
    return job.data

def children(job):
    if job.attempts_started == 1:
        job.queue(job.queue_name).add("page", 7, parent=Parent(job.id, job.queue_name))
        raise WaitingChildrenError
    return list(job.children_values().values())

def adopt(job):
    parent = Parent(job.data["id"], job.data["of"])
    return job.queue(job.data["to"]).add("n", {}, parent=parent).id

def wrong(job):
    job.queue(job.data["to"]).add("n", {}, **{job.data["option"]: job.data["value"]})

def too_many(job):
    job.queue(job.data["to"]).add_bulk([("n", 0)] * 1001)

def large(job):
    value = {"text": "ä" * 1_000_000, "list": list(range(300_000))}
    return job.queue(job.data["to"]).add("n", value).id

def too_large(job):
    job.queue(job.data["to"]).add("n", "x" * (9 << 20))

def not_json(job):
    job.queue(job.data["to"]).add("n", {"f": job.add})

def raw(job):
    from sandboxq.child.values import ADD
    job._questions.ask(job._seq, ADD, bytes.fromhex(job.data["hex"]), list)
"""

ASYNC_ADDER = """
import asyncio

async def process(job):
    queue = job.queue(job.data["to"])
    added = await asyncio.gather(*[queue.add("n", i) for i in range(20)])
    return len({each.id for each in added})
"""


class Scene:
    """A queue, its worker's processor, and another queue, looked at from outside."""

    def __init__(self, url: str, name: str, processor: Path, client: Any) -> None:
        """Name both queues."""
        self.url, self.name, self.processor, self.client = url, name, processor, client
        self.other = f"{name}-next"

    async def outcome(self, name: str, data: Any = None, **options: Any) -> Any:
        """Run one job to its end and return its value."""
        data = {"to": self.other, **(data or {})}
        async with (
            Queue(self.name, self.url) as queue,
            Worker(self.name, self.processor, url=self.url, procs=1, **options) as worker,
        ):
            job = await queue.add(name, data)
            await worker.run(burst=True)
            return await job.result(timeout=60)

    async def other_jobs(self) -> list[Any]:
        """Return what waits in the other queue."""
        async with Queue(self.other, self.url) as queue:
            return await queue.get_jobs(["waiting", "delayed", "prioritized"], ascending=True)


@asynccontextmanager
async def scene(url: str, name: str, folder: Path, source: str = ADDER) -> AsyncIterator[Scene]:
    """Write the processor and make a scene with it."""
    processor = folder / "adder.py"
    processor.write_text(source)
    async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client:
        yield Scene(url, name, processor, client)


@pytest.mark.parametrize("policy", ["none", "limits", Policy("strict", add_to=["*"])])
def test_a_job_adds_a_job(
    server_url: str, queue_name: str, tmp_path: Path, policy: str | Policy
) -> None:
    """By default under each policy that is not strict, without the URL of Redis."""

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path) as at:
            job_id, name, queue = await at.outcome("one", policy=policy)
            (job,) = await at.other_jobs()
            assert (job.id, job.name, queue) == (job_id, name, at.other)
            assert job.data == {"of": "1", "text": "ä 🎉"}

    run_async(main())


def test_options_arrive_as_a_producer_would_send_them(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Each class of an option is made again from its fields, and checked."""

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path) as at:
            assert await at.outcome("options") is True
            jobs = {job.name: job for job in await at.other_jobs()}
            first = jobs["a"]
            assert (first.id, first.delay_ms, first.opts.attempts) == ("mine", 60_000, 3)
            opts = json.loads(await at.client.hget(f"bull:{at.other}:mine", "opts"))
            assert opts["backoff"] == {"type": "exponential", "delay": 1000}
            assert opts["removeOnComplete"] == 5
            assert opts["timeout"] == 30_000
            assert jobs["b"].priority == 4
            assert len(jobs) == 3

    run_async(main())


def test_many_in_one_call(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """In their order, all or none."""

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path) as at:
            assert await at.outcome("bulk") == 300
            assert [job.data for job in await at.other_jobs()] == list(range(299, -1, -1))

    run_async(main())


def test_large_data_arrives_whole(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """It is looked at in pieces on its way, and not changed."""

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path) as at:
            await at.outcome("large")
            (job,) = await at.other_jobs()
            assert job.data == {"text": "ä" * 1_000_000, "list": list(range(300_000))}

    run_async(main())


def test_a_flow_and_children_of_the_job_itself(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """A job that finds out what is to be done waits for it."""

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path) as at:
            root = await at.outcome("flow")
            assert await at.client.lrange(f"bull:{at.other}:wait", 0, -1) == [root]
            assert await at.client.hlen(f"bull:{at.other}:{root}:processed") == 3
            assert await at.outcome("children") == [7]

    run_async(main())


def test_to_its_own_queue(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """A chain of jobs of one processor, by one method."""

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path) as at:
            await at.outcome("own", {"again": True})
            assert await at.client.zcard(f"bull:{at.name}:completed") == 2

    run_async(main())


def test_many_at_once_in_an_event_loop(server_url: str, queue_name: str, tmp_path: Path) -> None:
    """Each is awaited; they share round trips."""

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path, ASYNC_ADDER) as at:
            assert await at.outcome("n", concurrency=4) == 20
            assert len(await at.other_jobs()) == 20

    run_async(main())


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("wrong", {"option": "delay", "value": -1}, "delay"),
        ("wrong", {"option": "colour", "value": 1}, "no option 'colour'"),
        ("wrong", {"option": "job_id", "value": "1"}, "job_id"),
        ("too_many", {}, "1000 jobs"),
        ("too_large", {}, "8388608 bytes"),
        ("not_json", {}, "not JSON"),
        ("wrong", {"option": "delay", "value": -1}, "added: entry 0: delay must be"),
    ],
)
def test_what_cannot_be_right_adds_nothing(
    server_url: str, queue_name: str, tmp_path: Path, name: str, data: dict[str, Any], said: str
) -> None:
    """The job fails in words that say what was wrong."""

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path) as at:
            with pytest.raises(JobFailed, match=said):
                await at.outcome(name, data)
            assert await at.other_jobs() == []

    run_async(main())


@pytest.mark.parametrize(("add_to", "is_added"), [([], False), (["elsewhere"], False)])
def test_strict_adds_only_where_it_was_granted(
    server_url: str, queue_name: str, tmp_path: Path, add_to: list[str], *, is_added: bool
) -> None:
    """Strangers' code must not fill the queues of others."""
    del is_added

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path) as at:
            with pytest.raises(JobFailed, match="--add-to"):
                await at.outcome("one", policy=Policy("strict", add_to=add_to))
            assert await at.other_jobs() == []
            await at.outcome("one", policy=Policy("strict", add_to=[at.other]))
            assert len(await at.other_jobs()) == 1

    run_async(main())


def test_strict_makes_no_job_wait_of_a_queue_that_was_not_granted(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """A parent waits for its children: that is a write to its queue."""

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path) as at:
            third = f"{queue_name}-third"
            async with Queue(third, at.url) as queue:
                killed = await queue.add("n", {})
            data = {"id": killed.id, "of": third}
            with pytest.raises(JobFailed, match=r"add children to jobs of queue .* --add-to"):
                await at.outcome("adopt", data, policy=Policy("strict", add_to=[at.other]))
            assert await at.other_jobs() == []
            assert not await at.client.exists(f"bull:{third}:{killed.id}:dependencies")
            both = Policy("strict", add_to=[at.other, third])
            await at.outcome("adopt", data, policy=both)
            assert len(await at.other_jobs()) == 1

    run_async(main())


def _framed(header: object, data: bytes = b"") -> str:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text).to_bytes(4, "little") + text + data).hex()


def _framed_option(plain: dict[str, Any]) -> str:
    node = {"name": "n", "queue": "q", "data": 1, "opts": {"backoff": plain}}
    return _framed([node], b"1")


RAW = {
    "empty": "",
    "length beyond": (1 << 31).to_bytes(4, "little").hex(),
    "no json": _framed(b"\xff\xfe"),
    "no list": _framed({"a": 1}),
    "no dict": _framed([1, 2]),
    "deep": _framed(b"[" * 100_000),
    "data cut": _framed([{"name": "n", "queue": "q", "data": 50}], b"{}"),
    "negative": _framed([{"name": "n", "queue": "q", "data": -1}], b"{}"),
    "no json data": _framed([{"name": "n", "queue": "q", "data": 2}], b"{{"),
    "no json, long": _framed([{"name": "n", "queue": "q", "data": 300_000}], b"[" * 300_000),
    "header too long": _framed([{"name": "n" * 1_100_000, "queue": "q", "data": 1}], b"1"),
    "nan": _framed([{"name": "n", "queue": "q", "data": 3}], b"NaN"),
    "children text": _framed([{"name": "n", "queue": "q", "data": 1, "children": "abc"}], b"1"),
    "unknown class": _framed_option({"sq:class": "os"}),
    "class fields": _framed_option({"sq:class": "Keep", "x": 1}),
    "prefix": _framed([{"name": "n", "queue": "q", "data": 1, "prefix": "other"}], b"1"),
    "surrogate": _framed(b'[{"name": "\\ud800", "queue": "q\\ud800", "data": 1}]', b"1"),
    "queue number": _framed([{"name": "n", "queue": 5, "data": 1}], b"1"),
}  # fmt: skip


@pytest.mark.parametrize("case", RAW)
def test_a_forged_request_is_refused_and_reaches_nobody(
    server_url: str, queue_name: str, tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever bytes a child sends, its job alone hears of it."""

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path) as at:
            with pytest.raises(JobFailed, match="nothing was added"):
                await at.outcome("raw", {"hex": RAW[case]})
            assert await at.outcome("own") == "done"
            assert await at.other_jobs() == []

    run_async(main())
    # The trace of the job itself is told with its failure; none of the worker is.
    assert not [row for row in caplog.records if row.exc_info]


def test_a_request_that_is_sent_again_adds_nothing_twice(server_url: str, queue_name: str) -> None:
    """After a lost reply nobody knows whether Redis has run it."""

    async def main() -> None:
        broker = await Broker.connect(server_url)
        keys = QueueKeys(queue_name)
        await broker.command("SET", keys["7:lock"], "token")
        nodes = [
            NewNode(keys, f"id-{i}", has_children=False, job=new_job("n", "{}")) for i in range(3)
        ]
        flows = [(nodes, Fence(keys["7:lock"].encode(), b"token"))]
        for _ in range(3):
            assert await add_flows(broker, flows, now_ms=1) == [["id-0", "id-1", "id-2"]]
        assert await broker.command("LLEN", keys["wait"]) == 3
        await broker.command("DEL", keys["7:lock"])
        (refusal,) = await add_flows(broker, flows, now_ms=1)
        assert isinstance(refusal, LockMissing)
        await broker.close()

    run_async(main())


def test_nothing_is_added_once_the_lock_is_lost(
    server_url: str, queue_name: str, tmp_path: Path
) -> None:
    """Somebody else runs the job by then, and will add it."""
    slow = """
import time
def process(job):
    if job.attempts_started > 1:
        return "second"
    time.sleep(job.data["wait"])
    job.queue(job.data["to"]).add("n", {})
"""

    async def main() -> None:
        async with scene(server_url, queue_name, tmp_path, slow) as at:
            async with (
                Queue(at.name, at.url) as queue,
                Worker(
                    at.name, at.processor, url=at.url, procs=1, skip_lock_renewal=True,
                    lock_duration=600, shutdown_timeout=1,
                ) as worker,
            ):  # fmt: skip
                job = await queue.add("n", {"to": at.other, "wait": 1.0})
                running = asyncio.create_task(worker.run())
                lock = f"bull:{at.name}:{job.id}:lock"
                await wait_until_async(lambda: at.client.exists(lock))
                await at.client.set(lock, "somebody else")
                with pytest.raises(TimeoutError):
                    await job.result(timeout=3)
                running.cancel()
            assert await at.other_jobs() == []

    run_async(main())
