"""Flows as producers add and read them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from sandboxq import FlowProducer
from sandboxq.errors import (
    BrokerUnavailable,
    JobNotFound,
    ParentCannotBeReplaced,
    ParentNotFound,
    UsageError,
)
from sandboxq.model.job import Deduplication, JobState, Parent
from sandboxq.queue import flow_plan
from tests.conftest import run_async
from tests.queue.bench import completed, failed, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sandboxq.queue.flow import Flow
    from sandboxq.queue.flow_plan import FlowNode
    from sandboxq.queue.job import QueuedJob
    from sandboxq.queue.queue import Queue
    from tests.queue.bench import Bench

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def produce(bench: Bench, body: Callable[[FlowProducer], Coroutine[Any, Any, Any]]) -> Any:
    """Run an async body with a producer."""

    async def main() -> Any:
        async with FlowProducer(bench.url) as producer:
            return await body(producer)

    return run_async(main())


def child(bench: Bench, name: str = "resize", **node: Any) -> FlowNode:
    """Return a child in a queue beside the bench's."""
    return {"name": name, "queue": f"{bench.name}-children", **node}  # type: ignore[typeddict-item]  # a test's nodes may be wrong


def names(flow: Flow[Any] | None) -> Any:
    """Return the names of a tree's jobs."""
    assert flow is not None
    return (flow.job.name, [names(each) for each in flow.children])


def test_add_and_look(bench: Bench) -> None:
    """The tree that comes back is the tree that stands in Redis, each job bound to its queue."""

    async def body(producer: FlowProducer) -> None:
        nested = child(bench, "zip", data=[1], children=[child(bench, "x"), child(bench, "y")])
        flow = await producer.add(
            name="album",
            queue=bench.name,
            data={"title": "ä"},
            children=[child(bench, data={"src": "a.jpg"}, opts={"attempts": 3}), nested],
            priority=2,
        )

        assert names(flow) == ("album", [("resize", []), ("zip", [("x", []), ("y", [])])])
        resize = flow.children[0].job
        assert UUID.fullmatch(resize.id)
        assert (flow.job.queue.name, resize.queue.name) == (bench.name, f"{bench.name}-children")
        assert await flow.job.refresh() == flow.job
        assert await resize.refresh() == resize
        assert await flow.job.state() is JobState.WAITING_CHILDREN
        assert await resize.state() is JobState.WAITING
        assert resize.parent_key == flow.job.queue.keys[flow.job.id]
        read = await producer.get_flow(bench.name, flow.job.id)
        assert read is not None
        assert read.job == flow.job
        assert {each.job.id for each in read.children} == {each.job.id for each in flow.children}

    produce(bench, body)


def test_defaults_by_queue(bench: Bench) -> None:
    """A flow of thousands says once how often its images are tried."""

    async def body(producer: FlowProducer) -> None:
        defaults: Any = {f"{bench.name}-children": {"attempts": 3, "priority": 7}}
        tree = child(bench, "top", children=[child(bench, opts={"attempts": 5}), child(bench)])
        (flow,) = await producer.add_bulk([tree], queue_defaults=defaults)
        jobs = [flow.job, *[each.job for each in flow.children]]
        assert [(job.opts.attempts, job.priority) for job in jobs] == [(3, 7), (5, 7), (3, 7)]
        assert await jobs[1].state() is JobState.PRIORITIZED

    produce(bench, body)


def test_many_flows_or_none(bench: Bench) -> None:
    """One wrong flow of a bulk leaves no half of it behind."""

    async def body(producer: FlowProducer) -> None:
        named: FlowNode = child(bench, opts={"job_id": "taken"})
        await producer.add(name="a", queue=bench.name, children=[named])
        before = set(bench.redis.keys(f"*{bench.name}*"))
        bulk: list[FlowNode] = [
            child(bench, "b", children=[child(bench)]),
            child(bench, "c", children=[named]),
        ]
        with pytest.raises(ParentCannotBeReplaced):
            await producer.add_bulk(bulk)
        assert set(bench.redis.keys(f"*{bench.name}*")) == before
        flows = await producer.add_bulk(bulk[:1] * 3)
        assert [names(flow) for flow in flows] == [("b", [("resize", [])])] * 3
        assert await producer.add_bulk([]) == []

    produce(bench, body)


def test_below_another_job(bench: Bench) -> None:
    """A flow's root may be the child of a job that exists."""

    async def body(producer: FlowProducer) -> None:
        with pytest.raises(ParentNotFound):
            await producer.add(name="a", queue=bench.name, parent=Parent("no", bench.name))
        top = await producer.add(name="top", queue=bench.name, children=[child(bench)])
        parent = Parent(top.job.id, bench.name, "ignore")
        below = await producer.add(name="a", queue=bench.name, parent=parent)
        assert below.job.parent == {
            "id": top.job.id,
            "queueKey": f"bull:{bench.name}",
            "idof": True,
        }
        assert await top.job.dependencies_count() == {
            "processed": 0,
            "unprocessed": 2,
            "ignored": 0,
            "failed": 0,
        }

    produce(bench, body)


def test_another_prefix(bench: Bench) -> None:
    """Queues of one flow may belong to different applications."""

    async def body(producer: FlowProducer) -> None:
        flow = await producer.add(
            name="a", queue=bench.name, children=[child(bench, prefix="{other}")]
        )
        assert flow.children[0].job.queue.keys.base == f"{{other}}:{bench.name}-children:"
        read = await producer.get_flow(bench.name, flow.job.id)
        assert read is not None
        assert read.children[0].job == flow.children[0].job
        await flow.children[0].job.remove()

    produce(bench, body)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"queue": "a:b"}, "queue name"),
    ({"queue": None}, "queue must be text"),
    ({"data": float("nan")}, "data"),
    ({"opts": {"priority": -1}}, "priority"),
    ({"opts": {"delay": -1}}, "delay"),
    ({"opts": {"nonsense": 1}}, "nonsense"),
    ({"opts": [1]}, "opts must be a mapping"),
    ({"children": "abc"}, "children must be a sequence"),
    ({"children": [7]}, "must be a dict"),
    ({"fail_parent_on_failure": True}, "has no 'fail_parent_on_failure'"),
    ({"on_failure": "explode"}, "on_failure must be one of"),
    ({"on_failure": ["fail", "ignore"]}, "on_failure must be one of"),
    ({"opts": {"parent": Parent("x", "y")}}, "leave out parent"),
    ({"opts": {"deduplication": Deduplication("d")}}, "cannot be used together"),
    ({"prefix": ""}, "prefix"),
    ({"opts": {"size_limit": 3}, "data": "long"}, "size"),
]


@pytest.mark.parametrize(("member", "text"), WRONG)
def test_wrong_children(bench: Bench, member: dict[str, Any], text: str) -> None:
    """The error names the node; nothing of the flow is written."""

    async def body(producer: FlowProducer) -> None:
        nodes = [child(bench), child(bench, children=[{**child(bench), **member}])]
        with pytest.raises(UsageError, match=re.escape(text)) as caught:
            await producer.add(name="a", queue=bench.name, children=nodes)
        assert str(caught.value).startswith("flow 0.children[1].children[0]")

    produce(bench, body)
    assert bench.redis.keys(f"*{bench.name}*") == []


def test_wrong_roots(bench: Bench) -> None:
    """What only a root can have wrong."""

    async def body(producer: FlowProducer) -> None:
        once = Deduplication("once")
        with pytest.raises(UsageError, match="deduplication cannot"):
            await producer.add(
                name="a", queue=bench.name, children=[child(bench)], deduplication=once
            )
        with pytest.raises(UsageError, match="on_failure is for children"):
            await producer.add_bulk([child(bench, on_failure="fail")])
        with pytest.raises(UsageError, match="queue_defaults"):
            await producer.add_bulk([child(bench)], queue_defaults={"q": 7})  # type: ignore[dict-item]  # the point
        same = child(bench, opts={"job_id": "same"})
        with pytest.raises(UsageError, match=r"'same' is also that of flow 0.children\[0\]"):
            await producer.add(name="a", queue=bench.name, children=[same, same])
        single = await producer.add(name="a", queue=bench.name, deduplication=once)
        again = await producer.add(name="a", queue=bench.name, deduplication=once)
        assert again.job.id == single.job.id

    produce(bench, body)


def test_a_flow_that_is_too_large(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis adds it in one step, in which it answers nobody else."""
    monkeypatch.setattr(flow_plan, "MOST_JOBS", 10)

    async def body(producer: FlowProducer) -> None:
        await producer.add(name="a", queue=bench.name, children=[child(bench)] * 9)
        with pytest.raises(UsageError, match="may have 10 jobs"):
            await producer.add(name="a", queue=bench.name, children=[child(bench)] * 10)

    produce(bench, body)


def test_parts_of_a_flow(bench: Bench) -> None:
    """Dashboards draw large flows in part; what was removed is left out."""

    async def body(producer: FlowProducer) -> None:
        deep = child(bench, "1", children=[child(bench, "2", children=[child(bench, "3")])])
        flow = await producer.add(
            name="0", queue=bench.name, children=[deep, *[child(bench, "b")] * 300]
        )
        root = flow.job.id

        async def look(**limits: Any) -> Any:
            return names(await producer.get_flow(bench.name, root, **limits))

        assert await look(depth=1) == ("0", [])
        assert len((await look(depth=2, max_children=400))[1]) == 301
        assert ("1", [("2", [("3", [])])]) in (await look(max_children=400))[1]
        assert len((await look())[1]) == 20
        assert (await look(max_children=0)) == ("0", [])
        bench.redis.delete(flow.children[1].job.queue.keys[flow.children[1].job.id])
        assert len((await look(max_children=400))[1]) == 300
        assert await producer.get_flow(bench.name, "no") is None
        for wrong in ({"depth": 0}, {"max_children": -1}, {"depth": 1.5}):
            with pytest.raises(UsageError):
                await look(**wrong)

    produce(bench, body)


def test_what_became_of_the_children(bench: Bench) -> None:
    """The whole life of a flow, as its parent can be asked about it."""

    async def body(producer: FlowProducer) -> None:
        below = [
            child(bench, "good"),
            child(bench, "bad", on_failure="ignore"),
            child(bench, "worse", on_failure="fail"),
            child(bench, "idle"),
        ]
        flow = await producer.add(name="album", queue=bench.name, children=below)
        good, bad, worse, idle = [each.job.queue.keys[each.job.id] for each in flow.children]
        ends = (completed(b'{"w":1}'), failed("boom"), failed("bang"))
        await finish(bench.url, f"{bench.name}-children", *ends)
        job = flow.job

        assert await job.children_values() == {good: {"w": 1}}
        assert await job.ignored_children_failures() == {bad: "boom"}
        assert await job.failed_children() == [worse]
        every = await job.dependencies()
        assert every == ({good: {"w": 1}}, [idle], {bad: "boom"}, [worse], None)
        assert await job.dependencies(count=10) == every
        assert set((await job.dependencies_count()).values()) == {1}
        processed = await job.queue.get_dependencies(job.id, "processed")
        assert (processed.total, processed.keys) == (1, [good])
        assert processed.values == {good: {"w": 1}}
        assert processed.jobs[good].returnvalue == {"w": 1}
        ignored = await job.queue.get_dependencies(job.id, "ignored", 0, 5)
        assert ignored.values == {bad: "boom"}
        assert (await job.queue.get_dependencies(job.id, "failed")).keys == [worse]
        with pytest.raises(UsageError, match="kind"):
            await job.queue.get_dependencies(job.id, "pending")
        with pytest.raises(UsageError, match="cursor"):
            await job.dependencies(count=10, cursor="nonsense")

    produce(bench, body)


def test_cutting_ties(bench: Bench) -> None:
    """What a parent no longer needs must not keep it waiting."""

    async def body(producer: FlowProducer) -> None:
        flow = await producer.add(name="a", queue=bench.name, children=[child(bench)] * 3)
        single = flow.children[0].job
        assert await single.remove_child_dependency()
        assert not await single.remove_child_dependency()
        assert (await single.refresh()).parent is None
        heard: list[int] = []
        assert await flow.job.remove_unprocessed_children(progress=heard.append) == 2
        assert heard == [2]
        assert await flow.job.state() is JobState.WAITING
        assert await single.state() is JobState.WAITING
        assert await single.remove()
        with pytest.raises(JobNotFound):
            await single.remove_child_dependency()

    produce(bench, body)


def test_without_redis(bench: Bench) -> None:
    """Making one does nothing; wrong arguments are told before anything is connected."""
    producer = FlowProducer("redis://127.0.0.1:1")
    with pytest.raises(UsageError):
        run_async(producer.add(name="", queue=bench.name))
    with pytest.raises(BrokerUnavailable):
        run_async(producer.add(name="a", queue=bench.name))
    run_async(producer.close())


def test_a_broker_of_ones_own(bench: Bench) -> None:
    """It stays open, as others use it too."""

    async def body(queue: Queue) -> None:
        broker = await queue._connected()
        async with FlowProducer(broker=broker) as producer:
            flow: Flow[QueuedJob] = await producer.add(name="a", queue=bench.name)
        assert await queue.job_state(flow.job.id) is JobState.WAITING

    bench.run(body)


# ── the blocking twin ───────────────────────────────────────────────────────


def test_blocking(bench: Bench) -> None:
    """A script without an event loop adds a flow and asks for what became of it."""
    with FlowProducer.sync(bench.url) as producer:
        flow = producer.add(name="album", queue=bench.name, children=[child(bench)])
        (second,) = producer.add_bulk([child(bench, "other")])
        read = producer.get_flow(bench.name, flow.job.id)
        assert names(read) == ("album", [("resize", [])])
        assert producer.get_flow(bench.name, "no") is None
        run_async(finish(bench.url, f"{bench.name}-children", completed(b"7")))
        key = f"bull:{bench.name}-children:{flow.children[0].job.id}"
        job = flow.job
        assert job.children_values() == {key: 7}
        assert job.dependencies() == ({key: 7}, [], {}, [], None)
        assert job.dependencies_count()["processed"] == 1
        assert (job.failed_children(), job.ignored_children_failures()) == ([], {})
        assert job.queue.get_dependencies(job.id, "processed").total == 1
        assert job.remove_unprocessed_children() == 0
        assert not job.remove_child_dependency()
        assert second.job.state() is JobState.WAITING
        assert job.state() is JobState.WAITING


def test_blocking_after_a_fork(bench: Bench) -> None:
    """Preforking servers make their producer before they fork."""
    with FlowProducer.sync(bench.url) as producer:
        producer.add(name="parent", queue=bench.name)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                producer.add(name="child", queue=bench.name)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        producer.add(name="parent", queue=bench.name)
        assert bench.redis.llen(bench.keys["wait"]) == 3
