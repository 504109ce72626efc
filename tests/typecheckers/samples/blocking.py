"""What code without an event loop calls, as type checkers see it. `# wrong` must be refused."""

from typing import Any, assert_type

from sandboxq import (
    AddOptions,
    ChildList,
    Flow,
    FlowProducer,
    JobState,
    Queue,
    QueueEvent,
    QueueEvents,
    QueueMeta,
    SyncFlowProducer,
    SyncJob,
    SyncQueue,
    SyncQueueEvents,
)


def of_a_queue(options: AddOptions) -> None:
    with Queue.sync("images", prefix="bull") as queue:
        assert_type(queue, SyncQueue)
        assert_type(queue.add("resize", {"width": 320}, priority=3, attempts=2), SyncJob)
        assert_type(queue.add("resize", 1, **options), SyncJob)
        assert_type(queue.add_bulk([("resize", 1), ("resize", 2, {"delay": 3})]), list[SyncJob])
        assert_type(queue.counts(["waiting", "active"]), dict[str, int])
        assert_type(queue.get_job("1"), SyncJob | None)
        assert_type(queue.get_jobs("waiting", 0, 9, ascending=True), list[SyncJob])
        assert_type(queue.get_failed(end=9), list[SyncJob])
        assert_type(queue.get_dependencies("1", "processed"), ChildList)
        assert_type(queue.get_meta(), QueueMeta)
        assert_type(queue.clean(60.0, "failed", limit=9, progress=print), list[str])
        assert_type(queue.result("1", timeout=9), Any)
        assert_type(queue.remove("1", with_children=False), bool)
    queue.add("resize")  # wrong
    queue.add("resize", 1, priorty=3)  # wrong
    queue.add("resize", 1, priority="high")  # wrong
    queue.counts(1)  # wrong
    queue.get_jobs("waiting", 0, 9, True)  # wrong
    queue.remove("1", with_child=True)  # wrong
    queue.clean(60.0, "failed", progress=9)  # wrong
    queue.result(1)  # wrong
    queue.number_of_jobs()  # wrong


def of_a_job(job: SyncJob) -> None:
    assert_type(job.queue, SyncQueue)
    assert_type(job.id, str)
    assert_type(job.result(timeout=9), Any)
    assert_type(job.state(), JobState)
    assert_type(job.refresh(), SyncJob)
    assert_type(job.retry("failed", reset_attempts_made=True), None)
    job.retry(reset=True)  # wrong
    job.update_data()  # wrong
    job.change_delay("soon")  # wrong


def of_a_flow() -> None:
    with FlowProducer.sync() as flows:
        assert_type(flows, SyncFlowProducer)
        added = flows.add(name="album", queue="q", children=[{"name": "n", "queue": "q"}], lifo=True)
        assert_type(added, Flow[SyncJob])
        assert_type(flows.add_bulk([{"name": "n", "queue": "q"}]), list[Flow[SyncJob]])
        assert_type(flows.get_flow("q", "1", depth=2), Flow[SyncJob] | None)
    flows.add(name="album")  # wrong
    flows.add(name="album", queue="q", child=[])  # wrong
    flows.add_bulk([{"name": "n"}])  # wrong


def of_events() -> None:
    with QueueEvents.sync("images", names=["completed"]) as events:
        assert_type(events, SyncQueueEvents)
        assert_type(events.read(timeout=1.5), QueueEvent | None)
        assert_type(events.last_id, str)
        for event in events:
            assert_type(event, QueueEvent)
    events.read("soon")  # wrong
    events.read(limit=1)  # wrong


async def in_an_event_loop(queue: SyncQueue) -> None:
    await queue.count()  # wrong
    async for _ in SyncQueueEvents("images"):  # wrong
        pass
