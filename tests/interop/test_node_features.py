"""Features that only Node's producers use so far: our worker must do its part in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import wait_until_async

if TYPE_CHECKING:
    from tests.interop.node_driver import NodeSide
    from tests.interop.our_side import OurSide


def flow_of(node: NodeSide, *children: dict[str, Any]) -> dict[str, Any]:
    """Return a flow: a parent on the queue `<queue>-parent` over these children on our queue."""
    nodes = [{"queueName": node.queue_name, **child} for child in children]
    parent_queue = f"{node.queue_name}-parent"
    return {"name": "children", "queueName": parent_queue, "data": {}, "children": nodes}


def failing_child(policy: dict[str, Any]) -> dict[str, Any]:
    """Return a child that fails, with what its failure means for the parent."""
    return {"name": "fail", "data": {"times": 9, "message": "boom"}, "opts": policy}


async def parent_of(node: NodeSide) -> NodeSide:
    """Return Node's side of the parent's queue, with a Node worker on it."""
    parents = type(node)(node.driver, f"{node.queue_name}-parent", node.version)
    await parents.start_worker()
    return parents


async def test_our_children_release_their_parent(node: NodeSide, ours: OurSide) -> None:
    """A flow may mix languages: images resized here, the album put together in Node."""
    tree = flow_of(node, {"name": "echo", "data": "a"}, {"name": "echo", "data": "ü"})
    flow = await node.call("flow", tree=tree)
    parents = await parent_of(node)

    async with ours.worker():
        assert await parents.finished(flow["job"]["id"]) == {"value": ["a", "ü"]}

    await parents.call("leave")


@pytest.mark.parametrize(
    ("policy", "end"),
    [
        ({"failParentOnFailure": True}, {"failedReason": "child {child} failed"}),
        ({"ignoreDependencyOnFailure": True}, {"value": ["a"]}),
        ({"removeDependencyOnFailure": True}, {"value": ["a"]}),
        ({"continueParentOnFailure": True}, None),
    ],
    ids=["fail", "ignore", "remove", "continue"],
)
async def test_a_failed_child_does_to_its_parent_what_was_asked(
    node: NodeSide, ours: OurSide, policy: dict[str, Any], end: dict[str, Any] | None
) -> None:
    """The worker that fails the child is the one that must act on the parent."""
    tree = flow_of(node, {"name": "echo", "data": "a"}, failing_child(policy))
    flow = await node.call("flow", tree=tree)
    parents = await parent_of(node)

    async with ours.worker():
        ended = await parents.finished(flow["job"]["id"])

    child = f"bull:{node.queue_name}:{flow['children'][1]['job']['id']}"
    if end is None:
        # The parent goes on as soon as the child failed, perhaps before the other one is done.
        assert ended["value"] in ([], ["a"])
    else:
        assert ended == {key: _filled(text, child) for key, text in end.items()}
    await parents.call("leave")


def _filled(value: Any, child: str) -> Any:
    return value.format(child=child) if isinstance(value, str) else value


async def test_we_run_a_parent_after_node_ran_its_children(node: NodeSide, ours: OurSide) -> None:
    """The other way round: the album is put together here."""
    tree = flow_of(node, {"name": "echo", "data": "a"})
    tree = {**tree, "name": "echo", "data": "album", "queueName": node.queue_name}
    tree["children"][0]["queueName"] = f"{node.queue_name}-parent"
    flow = await node.call("flow", tree=tree)
    children = await parent_of(node)

    async with ours.worker():
        assert await node.finished(flow["job"]["id"]) == {"value": "album"}

    await children.call("leave")


async def test_a_finished_job_frees_its_deduplication_key(node: NodeSide, ours: OurSide) -> None:
    """A key that outlives its job would swallow every later add of that name."""
    once = {"deduplication": {"id": "album 7"}}
    first = await node.add("echo", 1, once)
    assert await node.add("echo", 2, once) == first

    async with ours.worker():
        assert await node.finished(first) == {"value": 1}
        second = await node.add("echo", 3, once)
        assert second != first
        assert await node.finished(second) == {"value": 3}


async def test_the_last_add_while_active_runs_next(node: NodeSide, ours: OurSide) -> None:
    """keepLastIfActive: the worker that finishes the job must queue the one that was kept."""
    await node.start_events()
    latest = {"deduplication": {"id": "album 7", "keepLastIfActive": True}}
    async with ours.worker():
        first = await node.add("sleep", {"ms": 400}, latest)

        async def is_active() -> list[dict[str, Any]]:
            return await node.events("active")

        await wait_until_async(is_active)
        await node.add("echo", "lost", latest)
        await node.add("echo", "kept", latest)

        async def have_both_ended() -> bool:
            return len(await node.events("completed")) == 2

        await wait_until_async(have_both_ended)

    done = await node.events("completed")
    assert [event["returnvalue"] for event in done] == ["slept", "kept"]
    assert done[0]["jobId"] == first


async def test_a_scheduler_s_job_runs_once(node: NodeSide, ours: OurSide) -> None:
    """Schedulers of Node put delayed jobs into the queue that any worker must be able to run."""
    job = await node.queue(
        "upsertJobScheduler",
        "nightly",
        {"every": 3_600_000},
        {"name": "echo", "data": "report", "opts": {"attempts": 2}},
    )

    async with ours.worker():
        assert await node.finished(job["id"]) == {"value": "report"}

    counts = await node.queue("getJobCounts", "completed", "failed", "active", "wait")
    assert counts == {"completed": 1, "failed": 0, "active": 0, "wait": 0}
    schedulers = await node.queue("getJobSchedulers")
    assert [scheduler["key"] for scheduler in schedulers] == ["nightly"]


async def test_we_keep_node_s_global_limits(node: NodeSide, ours: OurSide) -> None:
    """A global concurrency of one protects something outside; five children must not break it."""
    await node.start_events()
    await node.queue("setGlobalConcurrency", 1)
    jobs = await node.queue("addBulk", [{"name": "sleep", "data": {"ms": 20}}] * 8)

    # A drain delay beyond the test's time: what ends must wake who was refused before.
    async with ours.worker(procs=2, drain_delay=60.0):
        for job in jobs:
            assert await node.finished(job["id"]) == {"value": "slept"}

    turns = [event["event"] for event in await node.events("active", "completed")]
    assert turns == ["active", "completed"] * 8


async def test_we_keep_node_s_global_rate(node: NodeSide, ours: OurSide) -> None:
    """A rate limit set by anybody protects an API from the whole fleet."""
    await node.queue("setGlobalRateLimit", 2, 300)
    added = await node.queue("addBulk", [{"name": "echo", "data": number} for number in range(5)])

    async with ours.worker(procs=2):
        for job in added:
            assert "value" in await node.finished(job["id"])

    starts = sorted(job["processedOn"] for job in await node.queue("getJobs", ["completed"]))
    assert starts[2] - starts[0] >= 250
    assert starts[4] - starts[2] >= 250
